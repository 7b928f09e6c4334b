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

// Turns what a job's Replay says into reports. The last one, which says that the job has ended, is
// kept until that is true and the Replay has returned.
class Runner::Reporter final : public AnswerSink {
 public:
  using Deliver = std::function<void(Report)>;
  Reporter(SessionId session, const Task& task, Deliver deliver)
      : deliver_(std::move(deliver)),
        last_answer_(answer_of_last_entry(*task.work.plan)),
        last_{.session = session,
              .job = task.work.job,
              .finished = true,
              .staged_bytes = task.staged_bytes,
              .inline_bytes = task.inline_bytes,
              .bytes = {}} {}

  void answer(uint32_t index, Result<Answer> answer) override {
    // Nothing runs behind the last entry, so its answer and the end of the job are one report.
    if (index == last_answer_) {
      last_.answer = index;
      last_.bytes = std::move(answer);
      return;
    }
    deliver_(
        {.session = last_.session, .job = last_.job, .answer = index, .bytes = std::move(answer)});
  }

  void ended() override {
    std::function<void(Report)> leave;
    {
      const MutexLock lock(mutex_);
      ended_ = true;
      leave = std::move(leave_);
    }
    if (leave) leave(std::move(last_));  // The last call: nobody looks at the Reporter any more.
  }

  // The last report, if the job has ended. If not, `leave` gets it when it has.
  std::optional<Report> take_last(std::function<void(Report)> leave) {
    const MutexLock lock(mutex_);
    if (ended_) return std::move(last_);
    leave_ = std::move(leave);
    return std::nullopt;
  }

 private:
  static uint32_t answer_of_last_entry(const graph::Plan& plan) {
    const bool has_one = plan.answers > 0 && plan.entries.back().answer == plan.answers - 1;
    return has_one ? plan.answers - 1 : graph::kNone;
  }

  const Deliver deliver_;
  const uint32_t last_answer_;  // kNone: the last entry has none.
  Report last_;
  Mutex mutex_;
  bool ended_ GUARDED_BY(mutex_) = false;
  std::function<void(Report)> leave_ GUARDED_BY(mutex_);
};

Runner::Runner(Device& device, std::function<void()> wake, std::unique_ptr<sched::Policy> policy)
    : device_(device),
      wake_(std::move(wake)),
      queue_(std::move(policy)),
      thread_([this] { thread_main(); }) {
  pthread_setname_np(thread_.native_handle(), "djinn-run");
}

Runner::~Runner() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wanted_.notify_all();
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

void Runner::submit(SessionId session, Task task) {
  MutexLock lock(mutex_);
  Lane& lane = *lanes_.at(session);
  lane.hints.rest = Rest::kNone;
  lane.tasks.push_back(std::move(task));
  const uint64_t now = now_ns();
  queue_.add(session, {.arrived_ns = now}, now);
  hold_until_ns_ = 0;
  wanted_.notify_one();
}

bool Runner::try_run(SessionId session, Task& task, std::vector<Report>& reports) {
  if (device_.works_on_its_own()) return false;
  Lane* lane = nullptr;
  {
    MutexLock lock(mutex_);
    if (busy_ || queue_.ready()) return false;
    busy_ = true;
    lane = lanes_.at(session).get();  // Only this thread closes it.
    lane->hints.rest = Rest::kNone;
  }
  Reporter reporter(session, task, [&](Report report) { reports.push_back(std::move(report)); });
  const uint64_t begin_ns = now_ns();
  const uint64_t used_ns = run(*lane, task, reporter, begin_ns);
  reports.push_back(*reporter.take_last(nullptr));
  MutexLock lock(mutex_);
  queue_.ran(session, {.arrived_ns = begin_ns}, used_ns, begin_ns + used_ns);
  busy_ = false;
  if (has_work()) wanted_.notify_one();
  return true;
}

void Runner::pause(SessionId session, bool paused) {
  MutexLock lock(mutex_);
  queue_.pause(session, paused, now_ns());
  if (!paused) wanted_.notify_one();
}

void Runner::shrink(SessionId session) {
  MutexLock lock(mutex_);
  shrinking_.push_back(lanes_.at(session));
  wanted_.notify_one();
}

void Runner::hint(SessionId session, const sched::SessionHints& hints) {
  MutexLock lock(mutex_);
  const std::shared_ptr<Lane>& lane = lanes_.at(session);
  lane->hints = hints;
  if (hints.rest == Rest::kNone) return;
  if (std::ranges::find(resting_, lane) == resting_.end()) resting_.push_back(lane);
  wanted_.notify_one();
}

bool Runner::rest_due() const {
  return std::ranges::any_of(resting_, [](const auto& lane) { return lane->tasks.empty(); });
}

std::vector<Runner::Resting> Runner::take_resting() {
  std::vector<Resting> due;
  std::erase_if(resting_, [&](const auto& lane) {
    if (!lane->tasks.empty() && lane->hints.rest != Rest::kNone) return false;  // Not yet.
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
  queue_.remove(session);
  std::erase(resting_, at->second);
  closed_.push_back(std::move(at->second));
  lanes_.erase(at);
  wanted_.notify_one();
}

void Runner::take_reports(std::vector<Report>& reports) {
  assert(reports.empty());
  MutexLock lock(reports_mutex_);
  reports.swap(reports_);
}

bool Runner::idle() {
  MutexLock lock(mutex_);
  return !busy_ && on_device_ == 0 && queue_.waiting() == 0 && closed_.empty();
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
  if (!closed_.empty() || !shrinking_.empty() || rest_due()) return true;
  return queue_.ready() && (hold_until_ns_ == 0 || now_ns() >= hold_until_ns_);
}

bool Runner::step() {
  std::vector<std::shared_ptr<Lane>> closed;
  std::vector<std::shared_ptr<Lane>> shrinking;
  std::vector<Resting> resting;
  std::shared_ptr<Lane> lane;
  Task task;
  {
    MutexLock lock(mutex_);
    if (stopping_ || !has_work()) return false;
    closed.swap(closed_);
    shrinking.swap(shrinking_);
    resting = take_resting();
    const sched::Scheduler::Turn turn = queue_.take(now_ns());
    hold_until_ns_ = turn.hold_until_ns;
    if (turn.session) {
      lane = lanes_.at(*turn.session);
      task = std::move(lane->tasks.front());
      lane->tasks.pop_front();
      ++on_device_;
    }
    busy_ = true;
  }
  for (const auto& each : shrinking) each->replay->shrink();
  shrinking.clear();
  for (const Resting& each : resting) rest(each);
  resting.clear();
  closed.clear();  // Here the Replays of closed sessions die, before the next job needs memory.
  std::shared_ptr<Reporter> reporter;
  const uint64_t begin_ns = now_ns();
  uint64_t used_ns = 0;
  if (lane != nullptr) {
    reporter = std::make_shared<Reporter>(lane->session, task,
                                          [this](Report report) { publish(std::move(report)); });
    used_ns = run(*lane, task, *reporter, begin_ns);
  }
  task = {};  // What the job consumed is free before anybody hears of its end.
  std::optional<Report> last;
  if (lane != nullptr) {
    last = reporter->take_last(
        [this, reporter, begin_ns](Report report) { left(std::move(report), begin_ns); });
  }
  {
    MutexLock lock(mutex_);
    busy_ = false;
    if (last) queue_.charge(lane->session, used_ns);
    if (lane != nullptr) queue_.done(lane->session, begin_ns + used_ns);
    if (last) --on_device_;
  }
  // Only now, so that the client's next job, which may come at once, finds the device idle.
  if (last) publish(std::move(*last));
  return true;
}

void Runner::left(Report last, uint64_t begin_ns) {
  MutexLock lock(mutex_);         // Who hears of the end finds the job gone.
  const uint64_t now = now_ns();  // The device runs one job after another.
  queue_.charge(last.session, now - std::max(begin_ns, device_free_ns_));
  device_free_ns_ = now;
  publish(std::move(last));
  --on_device_;
  device_done_.notify_all();
}

uint64_t Runner::run(Lane& lane, const Task& task, Reporter& reporter, uint64_t begin_ns) {
  lane.replay->run(task.work, reporter);
  task.run_time->last_elements.store(task.elements, std::memory_order_relaxed);
  const uint64_t used_ns = now_ns() - begin_ns;
  task.run_time->last_ns.store(used_ns, std::memory_order_relaxed);
  return used_ns;
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
