// SPDX-License-Identifier: Apache-2.0
// Which jobs run together, and when.
#include "server/clock.h"
#include "server/runner.h"

namespace djinn::server {
namespace {

constexpr uint64_t kFresh = uint64_t{1} << 63;  // Groups that have given way have numbers below.
constexpr uint64_t kMix = 0x9e3779b97f4a7c15;

}  // namespace

uint64_t Runner::company_of(const Task& task) const {
  if (lockstep_ < 2 || task.work.refused != nullptr) return 0;
  const bool infers = task.phase == JobPhase::kDecode || task.phase == JobPhase::kInference;
  if (!infers || task.size.rows == 0 || task.size.rows > kDecodeRowsMax) return 0;
  const uint64_t bytes = task.run_time->shared_bytes_name.load(std::memory_order_relaxed);
  if (bytes == 0) return 0;
  // Sessions that have a plan have the same one (session/plan_cache.h).
  return ((bytes ^ reinterpret_cast<uintptr_t>(task.work.plan.get())) * kMix) | kFresh;
}

uint64_t Runner::gather(uint64_t now) {
  if (lockstep_ < 2) return 0;
  const sched::Scheduler::Waiting waiting = queue_.only_company();
  const bool full = waiting.sessions >= lockstep_;
  const uint64_t until =
      waiting.company == 0 || full ? 0 : gathering_.wait_until(waiting.company, now);
  if (until != 0) {
    if (held_since_ns_ == 0) held_since_ns_ = now;
    return until;
  }
  if (held_since_ns_ != 0) lockstep_stats_.held_ns += now - held_since_ns_;
  held_since_ns_ = 0;
  return 0;
}

void Runner::join(Due& due, SessionId first, uint64_t now) {
  due.lanes.push_back(lanes_.at(first));
  if (lockstep_ < 2) return;
  gathering_.began();
  mates_.clear();
  queue_.join(first, lockstep_ - 1, now, mates_);
  for (const SessionId mate : mates_) due.lanes.push_back(lanes_.at(mate));
  if (due.lanes[0]->amid || mates_.empty()) return;
  ++lockstep_stats_.groups;
  lockstep_stats_.jobs += due.lanes.size();
}

}  // namespace djinn::server
