// SPDX-License-Identifier: Apache-2.0
// wfq: weighted fair queueing of measured device time between tenants, whatever their jobs are.
#include "scheduler/fair_queue.h"
#include "scheduler/policy.h"

namespace djinn::sched {
namespace {

class Wfq final : public Policy {
 public:
  [[nodiscard]] std::string_view name() const override { return "wfq"; }
  [[nodiscard]] bool is_fair() const override { return true; }

  void enter(Lane& lane, uint64_t /*now_ns*/) override {
    queue_.enter(lane, lane.tenant->groups[0]);
  }
  void leave(Lane& lane) override { queue_.leave(lane); }
  [[nodiscard]] Choice choose(uint64_t now_ns) override {
    Lane* const lane = queue_.choose();
    if (lane == nullptr) return {};
    return {.lane = lane,
            .hold_until_ns = 0,
            .why = {.rule = "had the least for its weight",
                    .terms = {{{"virtual_ns", lane->group->virtual_ns},
                               {"waited_ns", now_ns - lane->job().arrived_ns}}}}};
  }
  [[nodiscard]] bool before(const Lane& a, const Lane& b) const override {
    return FairQueue::before(a, b);
  }
  void charge(Lane& lane, uint64_t used_ns) override {
    if (lane.group == nullptr) lane.group = &lane.tenant->groups[0];
    queue_.charge(lane, used_ns);
  }

 private:
  FairQueue queue_{{.quantum_ns = 1}};
};

}  // namespace

std::unique_ptr<Policy> make_wfq() { return std::make_unique<Wfq>(); }

}  // namespace djinn::sched
