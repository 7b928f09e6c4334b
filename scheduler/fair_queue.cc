// SPDX-License-Identifier: Apache-2.0
#include "scheduler/fair_queue.h"

#include <algorithm>

namespace djinn::sched {
namespace {

// Who comes back is where it was when it left, as seen from the others: what they had meanwhile is
// no credit, and whoever only ran a chunk has lost nothing by it.
uint64_t lifted(uint64_t virtual_ns, uint64_t behind_ns, uint64_t floor_ns) {
  return std::max(virtual_ns, floor_ns - std::min(floor_ns, behind_ns));
}

uint64_t behind(uint64_t virtual_ns, uint64_t floor_ns) {
  return floor_ns - std::min(floor_ns, virtual_ns);
}

bool keeps_place(const Lane& lane) { return lane.begun && lane.job().deadline_ns != kNever; }

}  // namespace

void FairQueue::enter(Lane& lane, Group& group) {
  if (group.lanes.empty()) {
    const bool lately = group.virtual_ns > 0 && used_ns_ - group.left_ns < options_.lately_ns;
    const uint64_t credit_ns = lately ? options_.lately_credit_ns : options_.credit_ns;
    const uint64_t behind_ns = std::max(group.behind_ns, credit_ns);
    group.virtual_ns = lifted(group.virtual_ns, behind_ns, floor_ns_);
  }
  lane.virtual_ns = lifted(lane.virtual_ns, lane.behind_ns, group.floor_ns);
  lane.group = &group;
  if (!keeps_place(lane)) lane.key.third = ++turns_;
  rank(lane);
  rank(group);
}

void FairQueue::leave(Lane& lane) {
  Group& group = *lane.group;
  group.lanes.drop(lane);
  lane.behind_ns = behind(lane.virtual_ns, group.floor_ns);
  if (group.lanes.empty()) {
    group.behind_ns = behind(group.virtual_ns, floor_ns_);
    group.left_ns = used_ns_;
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
  used_ns_ += used_ns;
  lane.virtual_ns += used_ns;
  group.virtual_ns +=
      static_cast<uint64_t>(static_cast<double>(used_ns) / group.tenant->terms.weight);
  if (lane.at != Ranked::kNowhere) rank(lane);
  if (group.at != Ranked::kNowhere) rank(group);
}

void FairQueue::moved(Lane& lane) {
  rank(lane);
  rank(*lane.group);
}

const Lane* FairQueue::first() const {
  const Group* const group = groups_.top();
  return group == nullptr ? nullptr : group->lanes.top();
}

bool FairQueue::would_precede(const Lane& absent, const Lane& first) const {
  if (absent.group == first.group) return true;
  return absent.group->virtual_ns / options_.quantum_ns <= first.group->key.first;
}

uint64_t FairQueue::quantum(uint64_t virtual_ns, const Lane& lane) const {
  const uint64_t move_ns = std::min(lane.job().move_ns, options_.affinity_ns);
  const uint64_t stands_back_ns =
      lane.in_class == Class::kLatencyCritical ? 0 : options_.head_start_ns;
  return (virtual_ns + move_ns + stands_back_ns) / options_.quantum_ns;
}

void FairQueue::rank(Lane& lane) {
  const uint64_t kept_ns = keeps_place(lane) ? std::min(lane.used_ns, options_.begun_ns) : 0;
  lane.key.first = quantum(lane.virtual_ns - std::min(lane.virtual_ns, kept_ns), lane);
  lane.key.second = due_ns(lane.job());
  lane.group->lanes.put(lane);
}

void FairQueue::rank(Group& group) {
  const Lane& lane = *group.lanes.top();
  group.key = {.first = quantum(group.virtual_ns, lane),
               .second = due_ns(lane.job()),
               .third = group.virtual_ns,
               .last = 0};
  groups_.put(group);
}

}  // namespace djinn::sched
