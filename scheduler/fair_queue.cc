// SPDX-License-Identifier: Apache-2.0
#include "scheduler/fair_queue.h"

#include <algorithm>

namespace djinn::sched {

void FairQueue::enter(Lane& lane, Group& group) {
  if (group.lanes.empty()) group.virtual_ns = std::max(group.virtual_ns, floor_ns_);
  lane.virtual_ns = std::max(lane.virtual_ns, group.floor_ns);
  lane.group = &group;
  lane.key.third = ++turns_;
  rank(lane);
  rank(group);
}

void FairQueue::leave(Lane& lane) {
  Group& group = *lane.group;
  group.lanes.drop(lane);
  if (group.lanes.empty()) {
    groups_.drop(group);
  } else {
    rank(group);
  }
}

Lane* FairQueue::choose() {
  Group* const group = groups_.top();
  if (group == nullptr) return nullptr;
  Lane* const lane = group->lanes.top();
  floor_ns_ = std::max(floor_ns_, group->virtual_ns);
  group->floor_ns = std::max(group->floor_ns, lane->virtual_ns);
  return lane;
}

void FairQueue::charge(Lane& lane, uint64_t used_ns) {
  Group& group = *lane.group;
  lane.virtual_ns += used_ns;
  group.virtual_ns +=
      static_cast<uint64_t>(static_cast<double>(used_ns) / group.tenant->terms.weight);
  if (lane.at != Ranked::kNowhere) rank(lane);
  if (group.at != Ranked::kNowhere) rank(group);
}

void FairQueue::rank(Lane& lane) {
  lane.key.first = lane.virtual_ns / quantum_ns_;
  lane.key.second = due_ns(lane.job());
  lane.group->lanes.put(lane);
}

void FairQueue::rank(Group& group) {
  const JobInfo& job = group.lanes.top()->job();
  group.key = {.first = group.virtual_ns / quantum_ns_,
               .second = due_ns(job),
               .third = job.bytes_to_move,
               .last = group.virtual_ns};
  groups_.put(group);
}

}  // namespace djinn::sched
