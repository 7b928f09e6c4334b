// SPDX-License-Identifier: Apache-2.0
// edf: the earliest deadline first, of those that can still be met.
//
// A job that would end too late even if it ran now waits as one without a deadline does, which is
// due ten seconds after it came: else, once overloaded, every job would be a little late. Nobody
// waits for what is due later than itself, so nobody starves; who lies about deadlines wins.
#include "scheduler/keyed.h"

namespace djinn::sched {
namespace {

constexpr int kDemotionsMax = 8;  // in one decision, so that it stays short

class Edf final : public Keyed {
 public:
  [[nodiscard]] std::string_view name() const override { return "edf"; }

  [[nodiscard]] Choice choose(uint64_t now_ns) override {
    for (int i = 0; i < kDemotionsMax; ++i) {
      Lane* const lane = heap_.top();
      if (lane == nullptr || lane->overdue || can_be_met(*lane, now_ns)) break;
      lane->overdue = true;
      lane->key.first = lane->job().arrived_ns + kPatienceNs;
      heap_.put(*lane);
    }
    return Keyed::choose(now_ns);
  }

 private:
  static bool can_be_met(const Lane& lane, uint64_t now_ns) {
    const JobInfo& job = lane.job();
    const uint64_t left_ns = job.expected_ns - std::min(job.expected_ns, lane.used_ns);
    return job.deadline_ns >= now_ns && job.deadline_ns - now_ns >= left_ns;
  }
  [[nodiscard]] uint64_t rank(Lane& lane, uint64_t /*now_ns*/) override {
    lane.overdue = false;
    return due_ns(lane.job());
  }
  [[nodiscard]] Why why(const Lane& lane, uint64_t now_ns) const override {
    return {.rule = lane.overdue ? "nobody else; its deadline cannot be met" : "due first",
            .terms = {{{"due_in_ns", lane.key.first - std::min(lane.key.first, now_ns)},
                       {"expected_ns", lane.job().expected_ns}}}};
  }
};

}  // namespace

std::unique_ptr<Policy> make_edf() { return std::make_unique<Edf>(); }

}  // namespace djinn::sched
