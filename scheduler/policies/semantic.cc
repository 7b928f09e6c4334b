// SPDX-License-Identifier: Apache-2.0
// semantic: what somebody waits for before what nobody waits for; among the former, tenants share
// by weight (fair_queue.h), and a latency-critical job has a head start over interactive ones.
// Within a quantum deadlines decide, and what is on the device runs before what would have to be
// brought there first.
//
// Why a head start and no rank of its own: a program decodes as long as it likes, and all who
// decode together would keep everybody else's first token back for ever. So who uses less of the
// device than its part is first with whatever it sends, and who uses more waits for those. For that
// a tenant may have saved up kLatelyCreditNs, and kCreditNs if it was away.
// Aging: best-effort jobs that wait are served once per kAgingNs whatever comes above them, so that
// each of n tenants waits at most n times that and n longest jobs. Anticipation: a program that
// decodes asks for its next step a round trip after the last; a longer job that slips into that gap
// would delay every token by half its length. So after a latency-critical session's step the device
// is held for as long as its gaps last, kHoldMaxNs at most, only while others wait and only if it
// would be first then. Holds that nobody came for become rare: after k of them in a row, one in
// 2^k.
#include <algorithm>

#include "scheduler/fair_queue.h"
#include "scheduler/policy.h"

namespace djinn::sched {
namespace {

constexpr uint64_t kQuantumNs = 2'000'000;
// Bytes that come for one job and leave for the next are worth a few jobs' length of waiting.
constexpr uint64_t kAffinityNs = 20'000'000;
constexpr uint64_t kHeadStartNs = 4'000'000;
// A few requests of a tenant that was away, or as much of a long one; and some more of one that
// always asks for less than its part.
constexpr uint64_t kCreditNs = 20'000'000;
constexpr uint64_t kLatelyNs = 500'000'000;
constexpr uint64_t kLatelyCreditNs = 150'000'000;
constexpr uint64_t kBegunNs = 50'000'000;
constexpr uint64_t kAgingNs = 500'000'000;
constexpr uint64_t kHoldMaxNs = 400'000;
constexpr uint32_t kMissesMax = 6;

class Semantic final : public Policy {
 public:
  [[nodiscard]] std::string_view name() const override { return "semantic"; }
  [[nodiscard]] bool is_fair() const override { return true; }
  [[nodiscard]] uint64_t hold_max_ns() const override { return kHoldMaxNs; }

  void enter(Lane& lane, uint64_t now_ns) override {
    const size_t of = rank_of(lane);
    if (ranks_[of].queue.empty()) ranks_[of].served_ns = now_ns;
    ranks_[of].queue.enter(lane, lane.tenant->groups[of]);
    if (held_ == &lane) {
      held_->holds_missed = 0;
      held_ = nullptr;
    }
  }
  void leave(Lane& lane) override { queue_of(lane).leave(lane); }
  void moved(Lane& lane) override { queue_of(lane).moved(lane); }

  [[nodiscard]] Choice choose(uint64_t now_ns) override {
    const bool batch_waits = !ranks_[kBatch].queue.empty();
    const Lane* const first = ranks_[kWaitedFor].queue.first();
    if (first == nullptr && !batch_waits) return {};
    if (first != nullptr && batch_waits && now_ns - ranks_[kBatch].served_ns >= kAgingNs) {
      return serve(kBatch, "its class has waited long", now_ns);
    }
    const bool is_urgent = first != nullptr && first->in_class == Class::kLatencyCritical;
    if (!is_urgent && holds(first, now_ns)) {
      return {.lane = nullptr, .hold_until_ns = hold_until_ns_, .why = {}};
    }
    return serve(first != nullptr ? kWaitedFor : kBatch,
                 "the first class, and had the least for its weight", now_ns);
  }

  [[nodiscard]] bool before(const Lane& a, const Lane& b) const override {
    return FairQueue::before(a, b);
  }
  void charge(Lane& lane, uint64_t used_ns) override {
    if (lane.group == nullptr) lane.group = &lane.tenant->groups[rank_of(lane)];
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
  enum Rank : size_t { kWaitedFor, kBatch, kRanks };
  struct OfRank {
    FairQueue queue{{.quantum_ns = kQuantumNs,
                     .affinity_ns = kAffinityNs,
                     .head_start_ns = kHeadStartNs,
                     .credit_ns = kCreditNs,
                     .lately_ns = kLatelyNs,
                     .lately_credit_ns = kLatelyCreditNs,
                     .begun_ns = kBegunNs}};
    uint64_t served_ns = 0;  // last, or when it came to have candidates
  };
  static size_t rank_of(const Lane& lane) {
    return lane.in_class == Class::kBestEffort ? kBatch : kWaitedFor;
  }
  FairQueue& queue_of(const Lane& lane) {
    return ranks_[static_cast<size_t>(lane.group - lane.tenant->groups.data())].queue;
  }

  Choice serve(size_t of, std::string_view rule, uint64_t now_ns) {
    Lane* const lane = ranks_[of].queue.choose();
    ranks_[of].served_ns = now_ns;
    const JobInfo& job = lane->job();
    const uint64_t due = due_ns(job);
    return {.lane = lane,
            .hold_until_ns = 0,
            .why = {.rule = rule,
                    .terms = {{{"class", static_cast<uint64_t>(lane->in_class)},
                               {"virtual_ns", lane->group->virtual_ns},
                               {"due_in_ns", due - std::min(due, now_ns)},
                               {"move_ns", job.move_ns},
                               {"waited_ns", now_ns - job.arrived_ns}}}}};
  }

  // `first`: who would have to wait for that; null: best-effort jobs.
  bool holds(const Lane* first, uint64_t now_ns) {
    if (held_ == nullptr) return false;
    if (first != nullptr && !ranks_[kWaitedFor].queue.would_precede(*held_, *first)) return false;
    if (now_ns < hold_until_ns_) return true;
    held_->holds_missed = std::min(held_->holds_missed + 1, kMissesMax);
    held_ = nullptr;
    return false;
  }

  std::array<OfRank, kRanks> ranks_;
  Lane* held_ = nullptr;  // The device waits for it, if there is something to hold it from.
  uint64_t hold_until_ns_ = 0;
};

}  // namespace

std::unique_ptr<Policy> make_semantic() { return std::make_unique<Semantic>(); }

}  // namespace djinn::sched
