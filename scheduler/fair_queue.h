// SPDX-License-Identifier: Apache-2.0
// FairQueue: device time in proportion to weights, first between tenants, then between a tenant's
// sessions.
//
// Each has a virtual time: the device time it had over its weight. The lowest runs next; who comes
// back is lifted to where the others are, so nobody saves up for later by being away. Within a
// quantum of virtual time, what is due first and then what need not be moved goes first: so
// affinity and deadlines reorder, and can never take more than a quantum from anybody.
// For two tenants that always have jobs, |used/weight - used/weight| <= quantum + the longer of
// their longest jobs over its weight.
// Ownership: borrows groups and lanes while they are in. Threading: plain value.
#pragma once

#include "scheduler/lane.h"

namespace djinn::sched {

class FairQueue {
 public:
  explicit FairQueue(uint64_t quantum_ns) : quantum_ns_(quantum_ns) {}

  void enter(Lane& lane, Group& group);
  void leave(Lane& lane);
  // Who runs next, or null.
  [[nodiscard]] Lane* choose();
  // For what it did in its group, whether it is in now or not.
  void charge(Lane& lane, uint64_t used_ns);
  [[nodiscard]] bool empty() const { return groups_.empty(); }

 private:
  void rank(Lane& lane);
  void rank(Group& group);

  const uint64_t quantum_ns_;
  Heap<Group> groups_;
  uint64_t floor_ns_ = 0;  // what groups are lifted to
  uint64_t turns_ = 0;
};

}  // namespace djinn::sched
