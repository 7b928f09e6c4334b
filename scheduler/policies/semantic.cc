// SPDX-License-Identifier: Apache-2.0
// semantic: latency-critical jobs before interactive before best-effort ones; inside a class,
// tenants share by weight (fair_queue.h), where deadlines decide within a quantum, and what is on
// the device runs before what would have to be brought there first.
//
// Aging: a class that waits is served once per kAgingNs whatever comes above it, so that each of n
// tenants of a class waits at most n times that and n longest jobs. Anticipation: a program that
// decodes asks for its next step a round trip after the last; a best-effort job that slips into
// that gap would delay every token by half its length. So after a latency-critical session's step
// the device is held for as long as its gaps last, kHoldMaxNs at most and only while lower classes
// wait. Holds that nobody came for become rare: after k of them in a row, one in 2^k.
#include <algorithm>

#include "scheduler/fair_queue.h"
#include "scheduler/policy.h"

namespace djinn::sched {
namespace {

constexpr uint64_t kQuantumNs = 2'000'000;
// Bytes that come for one job and leave for the next are worth a few jobs' length of waiting.
constexpr uint64_t kAffinityNs = 20'000'000;
constexpr uint64_t kAgingNs = 500'000'000;
constexpr uint64_t kHoldMaxNs = 400'000;
constexpr uint32_t kMissesMax = 6;

class Semantic final : public Policy {
 public:
  [[nodiscard]] std::string_view name() const override { return "semantic"; }
  [[nodiscard]] bool is_fair() const override { return true; }
  [[nodiscard]] uint64_t hold_max_ns() const override { return kHoldMaxNs; }

  void enter(Lane& lane, uint64_t now_ns) override {
    const size_t of = index(lane.in_class);
    if (classes_[of].queue.empty()) classes_[of].served_ns = now_ns;
    classes_[of].queue.enter(lane, lane.tenant->groups[of]);
    if (held_ == &lane) {
      held_->holds_missed = 0;
      held_ = nullptr;
    }
  }
  void leave(Lane& lane) override { queue_of(lane).leave(lane); }
  void moved(Lane& lane) override { queue_of(lane).moved(lane); }

  [[nodiscard]] Choice choose(uint64_t now_ns) override {
    size_t of = 0;
    while (of < kClasses && classes_[of].queue.empty()) ++of;
    if (of == kClasses) return {};
    const size_t aged = longest_unserved(of, now_ns);
    if (aged != of) return serve(aged, "its class has waited long", now_ns);
    if (of > index(Class::kLatencyCritical) && holds(now_ns)) {
      return {.lane = nullptr, .hold_until_ns = hold_until_ns_, .why = {}};
    }
    return serve(of, "the first class, and had the least for its weight", now_ns);
  }

  [[nodiscard]] bool before(const Lane& a, const Lane& b) const override {
    return FairQueue::before(a, b);
  }
  void charge(Lane& lane, uint64_t used_ns) override {
    if (lane.group == nullptr) lane.group = &lane.tenant->groups[index(lane.in_class)];
    queue_of(lane).charge(lane, used_ns);
  }

  void rest(Lane& lane, uint64_t now_ns) override {
    if (lane.in_class != Class::kLatencyCritical || lane.gap_ns == 0 || lane.gap_ns > kHoldMaxNs) {
      return;
    }
    if ((lane.rests++ & ((1U << lane.holds_missed) - 1)) != 0) return;
    held_ = &lane;
    hold_until_ns_ = now_ns + lane.gap_ns;
  }
  void forget(Lane& lane) override {
    if (held_ == &lane) held_ = nullptr;
  }

 private:
  struct OfClass {
    FairQueue queue{kQuantumNs, kAffinityNs};
    uint64_t served_ns = 0;  // last, or when it came to have candidates
  };
  static size_t index(Class of) { return static_cast<size_t>(of); }
  FairQueue& queue_of(const Lane& lane) {
    return classes_[static_cast<size_t>(lane.group - lane.tenant->groups.data())].queue;
  }

  // The class below `of` that has waited longest and too long; `of` if there is none.
  [[nodiscard]] size_t longest_unserved(size_t of, uint64_t now_ns) const {
    size_t out = of;
    for (size_t i = of + 1; i < kClasses; ++i) {
      const OfClass& each = classes_[i];
      if (each.queue.empty() || now_ns - each.served_ns < kAgingNs) continue;
      if (out == of || each.served_ns < classes_[out].served_ns) out = i;
    }
    return out;
  }

  Choice serve(size_t of, std::string_view rule, uint64_t now_ns) {
    Lane* const lane = classes_[of].queue.choose();
    classes_[of].served_ns = now_ns;
    const JobInfo& job = lane->job();
    const uint64_t due = due_ns(job);
    return {.lane = lane,
            .hold_until_ns = 0,
            .why = {.rule = rule,
                    .terms = {{{"class", of},
                               {"virtual_ns", lane->group->virtual_ns},
                               {"due_in_ns", due - std::min(due, now_ns)},
                               {"move_ns", job.move_ns},
                               {"waited_ns", now_ns - job.arrived_ns}}}}};
  }

  bool holds(uint64_t now_ns) {
    if (held_ == nullptr) return false;
    if (now_ns < hold_until_ns_) return true;
    held_->holds_missed = std::min(held_->holds_missed + 1, kMissesMax);
    held_ = nullptr;
    return false;
  }

  std::array<OfClass, kClasses> classes_;
  Lane* held_ = nullptr;  // The device waits for it, if there is something to hold it from.
  uint64_t hold_until_ns_ = 0;
};

}  // namespace

std::unique_ptr<Policy> make_semantic() { return std::make_unique<Semantic>(); }

}  // namespace djinn::sched
