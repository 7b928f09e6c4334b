// SPDX-License-Identifier: Apache-2.0
// Keyed: a policy whose order is one number per candidate: all that fcfs, rr, edf and priority are.
//
// Threading: plain value, as every policy.
#pragma once

#include "scheduler/policy.h"

namespace djinn::sched {

class Keyed : public Policy {
 public:
  void enter(Lane& lane, uint64_t now_ns) final {
    lane.key = {.first = rank(lane, now_ns), .second = ++entered_, .third = 0, .last = 0};
    heap_.put(lane);
  }
  void leave(Lane& lane) final { heap_.drop(lane); }
  [[nodiscard]] Choice choose(uint64_t now_ns) override {
    Lane* const lane = heap_.top();
    if (lane == nullptr) return {};
    return {.lane = lane, .hold_until_ns = 0, .why = why(*lane, now_ns)};
  }

 protected:
  // The lowest runs first; of equals, who became a candidate first.
  [[nodiscard]] virtual uint64_t rank(Lane& lane, uint64_t now_ns) = 0;
  [[nodiscard]] virtual Why why(const Lane& lane, uint64_t now_ns) const = 0;

  Heap<Lane> heap_;  // NOLINT: a base for a few lines each

 private:
  uint64_t entered_ = 0;
};

}  // namespace djinn::sched
