// SPDX-License-Identifier: Apache-2.0
// A chunk of a job, or of several together: it runs, and what it took is charged.
#include <algorithm>
#include <utility>

#include "server/clock.h"
#include "server/runner.h"
#include "server/session/deadline.h"

namespace djinn::server {
namespace {

constexpr size_t kEntriesWithoutTurn = 1024;

// If no operator of the plan runs, nobody waits long for it: bytes come only with the job itself,
// as all of a new tensor, and none go.
bool answers_only_errors(const Work& work) {
  const graph::Plan& plan = *work.plan;
  const auto brings_a_tensor = [&](const graph::Entry& entry) {
    const graph::Operand& to = plan.operands[entry.operand];
    const graph::SlotInfo& slot = plan.slots[to.slot];
    return entry.form == graph::UploadForm::kInline && slot.fresh && slot.bytes != graph::kNone &&
           to.strides == graph::kNone && to.offset == graph::kNone &&
           (*work.numbers)[slot.bytes] == (*work.numbers)[entry.number];
  };
  return plan.entries.size() <= kEntriesWithoutTurn &&
         std::ranges::all_of(plan.entries, [&](const graph::Entry& entry) {
           switch (entry.kind) {
             case graph::EntryKind::kUpload:
               return brings_a_tensor(entry);
             case graph::EntryKind::kFetch:
               return plan.slots[plan.operands[entry.operand].slot].fresh;
             default:
               return entry.kind != graph::EntryKind::kResize;
           }
         });
}

}  // namespace

void Runner::begin(Lane& lane, uint64_t now) {
  Begun& job = *lane.begun;
  if (job.reporter != nullptr) return;
  job.reporter = std::make_shared<Reporter>(lane.session, job.task,
                                            [this](Report report) { publish(std::move(report)); });
  job.begin_ns = now;
  refuse_if_late(job.task, now);
  if (job.task.work.refused != nullptr) job.company = 0;
}

void Runner::refuse_if_late(Task& task, uint64_t now) {
  if (task.deadline_ns == sched::kNever || task.work.refused != nullptr) return;
  if (now <= task.deadline_ns && task.doubted_ns <= task.deadline_ns - now) return;
  task.work.refused = late_at_its_turn(task.doubted_ns, task.deadline_ns, now);
  late_.fetch_add(1, std::memory_order_relaxed);
}

bool Runner::needs_no_turn(const Lane& lane, const Task& task) const {
  return task.work.refused != nullptr && lane.is_through() && !lane.answering &&
         !queue_.is_paused(lane.session) && !device_.works_on_its_own() &&
         answers_only_errors(task.work);
}

void Runner::answer(Refused& refused) {
  const uint64_t begin_ns = now_ns();
  Lane& lane = *refused.lane;
  Reporter reporter(lane.session, refused.task,
                    [this](Report report) { publish(std::move(report)); });
  lane.replay->run_whole(refused.task.work, reporter);
  refused.task = {};
  {
    MutexLock lock(mutex_);
    const uint64_t used_ns = now_ns() - begin_ns;
    used_ns_ += used_ns;
    queue_.answered(lane.session, used_ns);
    lane.answering = false;
  }
  publish(*reporter.take_last(nullptr));
}

void Runner::run_chunk(Lanes lanes) {
  const uint64_t begin_ns = now_ns();
  members_.clear();
  for (const auto& lane : lanes) {
    begin(*lane, begin_ns);
    members_.push_back({.replay = lane->replay.get(),
                        .work = &lane->begun->task.work,
                        .sink = lane->begun->reporter.get()});
  }
  const Task& first = lanes[0]->begun->task;
  const bool alone = lanes.size() == 1;
  Chunk chunk(chunk_ns_ == 0 ? nullptr : &others_wait_,
              {.begin_ns = begin_ns,
               .length_ns = chunk_ns_,
               .timed = alone && first.knowledge->times_operators()});
  if (alone) {
    Member& only = members_[0];
    only.whole = only.replay->run(*only.work, *only.sink, chunk);
    note_operator(first, chunk);
  } else {
    device_.run_together(members_, chunk);
  }
  const uint64_t now = now_ns();
  finish(lanes, now - begin_ns, now);
}

std::vector<uint64_t> Runner::shares(uint64_t used_ns) const {
  const auto runs = [](const Member& member) { return member.work->refused == nullptr; };
  const auto some = static_cast<uint64_t>(std::ranges::count_if(members_, runs));
  const bool all = some == 0 || some == members_.size();
  const uint64_t count = all ? members_.size() : some;
  std::vector<uint64_t> out;
  uint64_t paid = 0;
  for (const Member& member : members_) {
    const bool pays = all || runs(member);
    out.push_back(pays ? used_ns * (paid + 1) / count - used_ns * paid / count : 0);
    paid += pays ? 1 : 0;
  }
  return out;
}

void Runner::finish(Lanes lanes, uint64_t used_ns, uint64_t now) {
  std::vector<std::optional<Report>> ended(lanes.size());
  const std::vector<uint64_t> shares_ns = shares(used_ns);
  for (size_t i = 0; i < lanes.size(); ++i) {
    Begun& job = *lanes[i]->begun;
    job.used_ns += shares_ns[i];
    job.occupied_ns += used_ns;
    if (!members_[i].whole) continue;
    job.task.run_time->shared_bytes_name.store(lanes[i]->replay->shared_bytes_name(),
                                               std::memory_order_relaxed);
    ended[i] = end(job);
  }
  {
    MutexLock lock(mutex_);
    busy_ = false;
    chunk_since_ns_ = 0;
    const uint64_t group = lanes.size() > 1 ? ++groups_ : 0;
    for (size_t i = 0; i < lanes.size(); ++i) {
      if (members_[i].whole) {
        leave_lane(*lanes[i], ended[i].has_value(), shares_ns[i], now);
      } else {
        give_way(*lanes[i], shares_ns[i], now, group);
      }
    }
  }
  // Only now, so that the client's next job, which may come at once, finds the device idle.
  for (std::optional<Report>& last : ended) {
    if (last) publish(std::move(*last));
  }
}

void Runner::give_way(const Lane& lane, uint64_t used_ns, uint64_t now, uint64_t group) {
  --on_device_;
  charge(lane.session, used_ns);
  queue_.yield(lane.session, now, group);
}

void Runner::leave_lane(Lane& lane, bool ended, uint64_t used_ns, uint64_t now) {
  lane.amid = false;
  lane.move_known = false;
  const std::unique_ptr<Begun> job = std::move(lane.begun);
  if (job->company != 0 && lane.tasks.empty() && lanes_.contains(lane.session)) {
    gathering_.ended(lane.session, job->company, job->occupied_ns, now);
  }
  if (ended) charge(lane.session, used_ns);
  queue_.done(lane.session, now);
  if (ended) --on_device_;
}

std::optional<Report> Runner::end(Begun& job) {
  note_time(job.task, job.used_ns, job.occupied_ns);
  job.task = {};  // What the job consumed is free before anybody hears of its end.
  return job.reporter->take_last([this, reporter = job.reporter, begin_ns = job.begin_ns](
                                     Report report) { left(std::move(report), begin_ns); });
}

void Runner::left(Report last, uint64_t begin_ns) {
  MutexLock lock(mutex_);         // Who hears of the end finds the job gone.
  const uint64_t now = now_ns();  // The device runs one job after another.
  charge(last.session, now - std::max(begin_ns, device_free_ns_));
  device_free_ns_ = now;
  publish(std::move(last));
  --on_device_;
  device_done_.notify_all();
}

void Runner::charge(SessionId session, uint64_t used_ns) {
  used_ns_ += used_ns;
  queue_.charge(session, used_ns);
}

void Runner::note_time(const Task& task, uint64_t used_ns, uint64_t occupied_ns) {
  if (task.work.refused != nullptr) return;
  task.run_time->last_elements.store(task.size.elements, std::memory_order_relaxed);
  task.run_time->last_ns.store(occupied_ns, std::memory_order_relaxed);
  task.knowledge->ran(task.size, task.expected_ns, used_ns);
}

void Runner::note_operator(const Task& task, const Chunk& chunk) {
  const Chunk::Longest& longest = chunk.longest();
  if (longest.ns > 0) task.knowledge->note_operator(longest.entry, longest.ns);
}

}  // namespace djinn::server
