// SPDX-License-Identifier: Apache-2.0
// FairQueue: device time in proportion to weights, first between tenants, then between a tenant's
// sessions.
//
// Each has a virtual time: the device time it had over its weight. The lowest runs next; who comes
// back is as far behind the others as it was when it left, so nobody saves up for later by being
// away: a tenant at most `credit_ns`, so that who asks now and then is not behind who always does,
// and one that was there within the last `lately_ns` of device time at most `lately_credit_ns`: so
// who uses less than its part may send several requests at once.
// Within a quantum of virtual time, what is due first goes first. What has to be moved to the
// device before it can run stands back by the time that takes, `affinity_ns` at most: so jobs whose
// bytes are there run together, and deadlines and affinity never take more than that from anybody.
// A job with a deadline that has begun keeps its place among its tenant's sessions, until it has
// had `begun_ns`: one after the other more of them are in time than all at once. Likewise a job
// that is not latency-critical stands back by `head_start_ns` for those that are. For two tenants
// that always have jobs, |used/weight - used/weight| <= quantum + affinity + head start + the
// longer of their longest jobs over its weight. Ownership: borrows groups and lanes while they are
// in. Threading: plain value.
#pragma once

#include "scheduler/lane.h"

namespace djinn::sched {

class FairQueue {
 public:
  struct Options {
    uint64_t quantum_ns = 1;
    uint64_t affinity_ns = 0;
    uint64_t head_start_ns = 0;
    uint64_t credit_ns = 0;
    uint64_t lately_ns = 0;
    uint64_t lately_credit_ns = 0;
    uint64_t begun_ns = 0;
  };
  explicit FairQueue(const Options& options) : options_(options) {}

  void enter(Lane& lane, Group& group);
  void leave(Lane& lane);
  // It is in, and its job's `move_ns` has changed.
  void moved(Lane& lane);
  // Who runs next, or null.
  [[nodiscard]] Lane* choose();
  // The same, who may be passed over: nobody is lifted to where it is.
  [[nodiscard]] const Lane* first() const;
  // A latency-critical job of a lane that was in before would run before this one, which is first.
  [[nodiscard]] bool would_precede(const Lane& absent, const Lane& first) const;
  // Of two that are in.
  [[nodiscard]] static bool before(const Lane& a, const Lane& b) {
    return a.group == b.group ? a.key < b.key : a.group->key < b.group->key;
  }
  // For what it did in its group, whether it is in now or not.
  void charge(Lane& lane, uint64_t used_ns);
  [[nodiscard]] bool empty() const { return groups_.empty(); }

 private:
  void rank(Lane& lane);
  void rank(Group& group);
  // Which quantum a job is ranked in.
  [[nodiscard]] uint64_t quantum(uint64_t virtual_ns, const Lane& lane) const;

  const Options options_;
  Heap<Group> groups_;
  uint64_t floor_ns_ = 0;  // what groups are lifted to
  uint64_t used_ns_ = 0;   // by all
  uint64_t turns_ = 0;
};

}  // namespace djinn::sched
