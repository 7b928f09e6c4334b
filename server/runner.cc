// SPDX-License-Identifier: Apache-2.0
#include "server/runner.h"

#include <pthread.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <optional>
#include <utility>

#include "server/clock.h"

namespace djinn::server {

namespace {

// A decision must not cost more than what it may save, however many wait.
constexpr size_t kLanesLooked = 64;

}  // namespace

Runner::Runner(Device& device, std::function<void()> wake, std::unique_ptr<sched::Policy> policy,
               const Options& options)
    : device_(device),
      wake_(std::move(wake)),
      chunk_ns_(device.works_on_its_own() ? 0 : options.chunk_ns),
      lockstep_(std::min(options.lockstep, device.lockstep_max())),
      queue_(std::move(policy)),
      thread_([this] { thread_main(); }) {
  pthread_setname_np(thread_.native_handle(), "djinn-run");
}

Runner::~Runner() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    look_again();
  }
  thread_.join();
  MutexLock lock(mutex_);
  while (on_device_ > 0) device_done_.wait(mutex_);
}

void Runner::open(SessionId session, std::string_view tenant) {
  auto lane = std::make_shared<Lane>();
  lane->session = session;
  lane->replay = device_.open(session, tenant);
  MutexLock lock(mutex_);
  lanes_.emplace(session, std::move(lane));
  queue_.open(session, tenant);
}

sched::JobInfo Runner::job_info(const Lane& lane, const Task& task, uint64_t arrived_ns) const {
  const uint64_t last_ns = task.run_time->last_ns.load(std::memory_order_relaxed);
  return {.arrived_ns = arrived_ns,
          .expected_ns = task.work.refused == nullptr ? task.expected_ns : 0,
          .deadline_ns = task.deadline_ns,
          .wanted = sched::class_of(lane.hints, task.phase),
          .company = company_of(task),
          .step_ns = last_ns == UINT64_MAX ? 0 : last_ns};
}

void Runner::submit(SessionId session, Task task) {
  MutexLock lock(mutex_);
  Lane& lane = *lanes_.at(session);
  lane.hints.rest = Rest::kNone;
  if (needs_no_turn(lane, task)) {
    lane.answering = true;
    gathering_.came(session, now_ns());
    refused_.push_back({lanes_.at(session), std::move(task)});
    look_again();
    return;
  }
  const uint64_t now = now_ns();
  queue_.add(session, job_info(lane, task, now), now);
  gathering_.came(session, now);
  lane.tasks.push_back(std::move(task));
  hold_until_ns_ = 0;
  look_again();
}

bool Runner::try_run(SessionId session, Task& task, std::vector<Report>& reports) {
  if (device_.works_on_its_own()) return false;
  Lane* lane = nullptr;
  {
    MutexLock lock(mutex_);
    if (busy_ || queue_.ready() || !refused_.empty()) return false;
    busy_ = true;
    lane = lanes_.at(session).get();  // Only this thread closes it.
    lane->hints.rest = Rest::kNone;
  }
  Reporter reporter(session, task, [&](Report report) { reports.push_back(std::move(report)); });
  const uint64_t begin_ns = now_ns();
  refuse_if_late(task, begin_ns);
  Chunk whole(nullptr, {.begin_ns = begin_ns, .timed = task.knowledge->times_operators()});
  while (!lane->replay->run(task.work, reporter, whole)) {
  }
  note_operator(task, whole);
  const uint64_t used_ns = now_ns() - begin_ns;
  note_time(task, used_ns, used_ns);
  reports.push_back(*reporter.take_last(nullptr));
  MutexLock lock(mutex_);
  used_ns_ += used_ns;
  queue_.ran(session, job_info(*lane, task, begin_ns), used_ns, begin_ns + used_ns);
  busy_ = false;
  if (has_work()) wanted_.notify_one();
  return true;
}

void Runner::set_terms(std::string_view tenant, const sched::Terms& terms) {
  MutexLock lock(mutex_);
  queue_.set_terms(tenant, terms, now_ns());
}

void Runner::set_policy(std::unique_ptr<sched::Policy> policy) {
  MutexLock lock(mutex_);
  queue_.set_policy(std::move(policy), now_ns());
  hold_until_ns_ = 0;  // What the last one held the device for is not the next one's affair.
  look_again();
}

std::string Runner::policy() {
  MutexLock lock(mutex_);
  return std::string(queue_.policy().name());
}

std::vector<Runner::TenantUse> Runner::tenant_uses() {
  MutexLock lock(mutex_);
  std::vector<TenantUse> out;
  for (const auto& [name, tenant] : queue_.tenants()) {
    out.push_back({.tenant = name, .used_ns = tenant.used_ns, .jobs = tenant.jobs});
  }
  return out;
}

void Runner::pause(SessionId session, bool paused) {
  MutexLock lock(mutex_);
  queue_.pause(session, paused, now_ns());
  look_again();
}

void Runner::shrink(SessionId session) {
  MutexLock lock(mutex_);
  shrinking_.push_back(lanes_.at(session));
  look_again();
}

void Runner::hint(SessionId session, const sched::SessionHints& hints) {
  MutexLock lock(mutex_);
  const std::shared_ptr<Lane>& lane = lanes_.at(session);
  lane->hints = hints;
  if (hints.rest == Rest::kNone) return;
  if (std::ranges::find(resting_, lane) == resting_.end()) resting_.push_back(lane);
  look_again();
}

bool Runner::rest_due() const {
  return std::ranges::any_of(resting_, [](const auto& lane) { return lane->is_through(); });
}

std::vector<Runner::Resting> Runner::take_resting() {
  std::vector<Resting> due;
  std::erase_if(resting_, [&](const auto& lane) {
    if (!lane->is_through() && lane->hints.rest != Rest::kNone) return false;  // Not yet.
    if (lane->hints.rest != Rest::kNone) due.push_back({lane, lane->hints});
    return true;
  });
  return due;
}

void Runner::rest(const Resting& resting) {
  const bool known = resting.hints.rest == Rest::kUntil;
  resting.lane->replay->rest(known ? resting.hints.resume_ns : UINT64_MAX);
}

void Runner::close(SessionId session) {
  std::deque<Task> dropped;  // Freed outside of the lock.
  MutexLock lock(mutex_);
  const auto at = lanes_.find(session);
  if (at == lanes_.end()) return;
  dropped = std::move(at->second->tasks);
  queue_.remove(session, now_ns());
  gathering_.gone(session);
  std::erase(resting_, at->second);
  std::erase_if(refused_, [&](Refused& each) {
    if (each.lane != at->second) return false;
    dropped.push_back(std::move(each.task));
    return true;
  });
  closed_.push_back(std::move(at->second));
  lanes_.erase(at);
  look_again();
}

void Runner::take_reports(std::vector<Report>& reports) {
  assert(reports.empty());
  MutexLock lock(reports_mutex_);
  reports.swap(reports_);
}

bool Runner::idle() {
  MutexLock lock(mutex_);
  return !busy_ && on_device_ == 0 && queue_.waiting() == 0 && closed_.empty() && refused_.empty();
}

RateLimits::Use Runner::use_of(std::string_view tenant) {
  MutexLock lock(mutex_);
  const auto at = queue_.tenants().find(tenant);
  if (at == queue_.tenants().end()) return {};
  return {.used_ns = at->second.used_ns, .begun_ns = at->second.begun_ns};
}

Runner::Load Runner::load() {
  MutexLock lock(mutex_);
  const uint64_t running_ns = chunk_since_ns_ == 0 ? 0 : now_ns() - chunk_since_ns_;
  busy_shown_ns_ = std::max(busy_shown_ns_, used_ns_ + running_ns);
  return {
      .busy_ns = busy_shown_ns_, .queued = queue_.queued(), .waits = queue_.waits(), .late = late_};
}

LockstepStats Runner::lockstep_stats() {
  MutexLock lock(mutex_);
  LockstepStats out = lockstep_stats_;
  const SharedWork work = device_.shared_work();
  out.operators = work.operators;
  out.packed_bytes = work.packed_bytes;
  return out;
}

ReplayStats Runner::stats(SessionId session) {
  std::shared_ptr<Lane> lane;
  {
    MutexLock lock(mutex_);
    lane = lanes_.at(session);
  }
  return lane->replay->stats();
}

void Runner::thread_main() {
  while (true) {
    wait_for_work();
    {
      MutexLock lock(mutex_);
      if (stopping_) break;
    }
    while (step()) {
    }
  }
  MutexLock lock(mutex_);
  lanes_.clear();
  closed_.clear();
  shrinking_.clear();
  resting_.clear();
  refused_.clear();
}

void Runner::wait_for_work() {
  MutexLock lock(mutex_);
  while (!stopping_ && !has_work()) {
    const uint64_t now = now_ns();
    if (!busy_ && queue_.ready() && hold_until_ns_ > now) {
      wanted_.wait_for(mutex_, std::chrono::nanoseconds(hold_until_ns_ - now));
    } else {
      wanted_.wait(mutex_);
    }
  }
}

bool Runner::has_work() {
  if (busy_) return false;
  if (!closed_.empty() || !shrinking_.empty() || !refused_.empty() || rest_due()) return true;
  return queue_.ready() && (hold_until_ns_ == 0 || now_ns() >= hold_until_ns_);
}

void Runner::look_again() {
  others_wait_.store(stopping_ || !closed_.empty() || !shrinking_.empty() || !refused_.empty() ||
                         rest_due() || queue_.ready(),
                     std::memory_order_relaxed);
  wanted_.notify_one();
}

void Runner::note_moves() {
  const uint64_t moves = device_.moves();
  if (moves == 0) return;
  const bool all = std::exchange(moves_, moves) != moves;
  size_t looked = 0;
  for (const auto& [session, lane] : lanes_) {
    if (lane->is_through() || (!all && lane->move_known)) continue;
    if (++looked > kLanesLooked) return;  // The others keep what was true before.
    const Task& first = lane->amid ? lane->begun->task : lane->tasks.front();
    queue_.set_move(session, lane->replay->move_ns(first.work));
    lane->move_known = true;
  }
}

std::optional<Runner::Due> Runner::take_due() {
  MutexLock lock(mutex_);
  if (stopping_ || !has_work()) return std::nullopt;
  Due due;
  due.closed.swap(closed_);
  due.shrinking.swap(shrinking_);
  due.resting = take_resting();
  due.refused.swap(refused_);
  busy_ = true;
  take_turn(due);
  look_again();
  return due;
}

void Runner::take_turn(Due& due) {
  note_moves();
  const uint64_t now = now_ns();
  hold_until_ns_ = gather(now);
  if (hold_until_ns_ != 0) return;
  const sched::Scheduler::Turn turn = queue_.take(now);
  hold_until_ns_ = turn.hold_until_ns;
  if (!turn.session) return;
  join(due, *turn.session, now);
  if (!device_.works_on_its_own()) chunk_since_ns_ = now;
  for (const std::shared_ptr<Lane>& lane : due.lanes) {
    ++on_device_;
    if (std::exchange(lane->amid, true)) continue;
    lane->begun = std::make_unique<Begun>();
    lane->begun->task = std::move(lane->tasks.front());
    lane->tasks.pop_front();
    lane->begun->company = company_of(lane->begun->task);
  }
}

bool Runner::step() {
  std::optional<Due> due = take_due();
  if (!due) return false;
  for (const auto& each : due->shrinking) each->replay->shrink();
  due->shrinking.clear();
  for (const Resting& each : due->resting) rest(each);
  due->resting.clear();
  for (Refused& each : due->refused) answer(each);
  due->refused.clear();
  due->closed.clear();  // Here the Replays of closed sessions die, before a job needs memory.
  if (!due->lanes.empty()) {
    run_chunk(due->lanes);
  } else {
    MutexLock lock(mutex_);
    busy_ = false;
  }
  return true;
}

void Runner::publish(Report report) {
  bool first = false;
  {
    MutexLock lock(reports_mutex_);
    first = reports_.empty();
    reports_.push_back(std::move(report));
  }
  if (first) wake_();
}

}  // namespace djinn::server
