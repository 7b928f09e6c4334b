// SPDX-License-Identifier: Apache-2.0
// priority: the job with the highest priority; each step of it is a head start of 100 ms.
//
// So a job that waits overtakes, in the end, whatever arrives: waiting is added to the priority,
// and as all wait equally, the order of two jobs never changes and a heap will do. A job waits for
// those that came before it, and for those that came within its head start's difference.
#include <algorithm>

#include "scheduler/keyed.h"

namespace djinn::sched {
namespace {

constexpr uint64_t kHeadStartNs = 100'000'000;
constexpr int32_t kPriorityMax = 100;  // More is as much, in both directions.

class Priority final : public Keyed {
 public:
  [[nodiscard]] std::string_view name() const override { return "priority"; }

 private:
  // Before a job of the lowest priority that comes at the same time.
  static uint64_t head_start_ns(const Lane& lane) {
    const int32_t level = std::clamp(lane.job().priority, -kPriorityMax, kPriorityMax);
    return static_cast<uint64_t>(kPriorityMax + level) * kHeadStartNs;
  }
  [[nodiscard]] uint64_t rank(Lane& lane, uint64_t /*now_ns*/) override {
    return lane.job().arrived_ns + kHeadStartNs * 2 * kPriorityMax - head_start_ns(lane);
  }
  [[nodiscard]] Why why(const Lane& lane, uint64_t now_ns) const override {
    return {.rule = "priority and waiting",
            .terms = {{{"waited_ns", now_ns - lane.job().arrived_ns},
                       {"head_start_ns", head_start_ns(lane)}}}};
  }
};

}  // namespace

std::unique_ptr<Policy> make_priority() { return std::make_unique<Priority>(); }

}  // namespace djinn::sched
