// SPDX-License-Identifier: Apache-2.0
// priority: the most urgent class first; each step of it is a head start of 100 ms.
//
// So a job that waits overtakes, in the end, whatever arrives: waiting is added to the head start,
// and as all wait equally, the order of two jobs never changes and a heap will do. A job waits for
// those that came before it, and for those that came within its head start's difference. Tenants
// are no concern of it: who sends more urgent jobs gets more, up to its ceiling (lane.h).
#include "scheduler/keyed.h"

namespace djinn::sched {
namespace {

constexpr uint64_t kHeadStartNs = 100'000'000;

class Priority final : public Keyed {
 public:
  [[nodiscard]] std::string_view name() const override { return "priority"; }

 private:
  // Behind a job of the most urgent class that comes at the same time.
  static uint64_t behind_ns(const Lane& lane) {
    return static_cast<uint64_t>(lane.in_class) * kHeadStartNs;
  }
  [[nodiscard]] uint64_t rank(Lane& lane, uint64_t /*now_ns*/) override {
    return lane.job().arrived_ns + behind_ns(lane);
  }
  [[nodiscard]] Why why(const Lane& lane, uint64_t now_ns) const override {
    return {.rule = "its class and waiting",
            .terms = {{{"waited_ns", now_ns - lane.job().arrived_ns},
                       {"class", static_cast<uint64_t>(lane.in_class)}}}};
  }
};

}  // namespace

std::unique_ptr<Policy> make_priority() { return std::make_unique<Priority>(); }

}  // namespace djinn::sched
