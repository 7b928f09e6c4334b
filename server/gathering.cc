// SPDX-License-Identifier: Apache-2.0
#include "server/gathering.h"

#include <algorithm>
#include <utility>

namespace djinn::server {
namespace {

constexpr uint64_t kGapMaxNs = 200'000'000;  // A longer one was a pause, and says nothing.
constexpr uint32_t kPenaltyMax = 32;

// How long a mate is worth waiting for.
uint64_t patience_ns(uint64_t step_ns) { return std::min(step_ns / 2, Gathering::kWaitMaxNs); }

}  // namespace

void Gathering::ended(SessionId session, uint64_t company, uint64_t step_ns, uint64_t now_ns) {
  Mate& mate = mates_[session];
  mate.company = company;
  mate.step_ns = step_ns;
  mate.ended_ns = now_ns;
  mate.expected = mate.owed == 0 && mate.gap_ns <= patience_ns(step_ns);
}

void Gathering::came(SessionId session, uint64_t now_ns) {
  const auto at = mates_.find(session);
  if (at == mates_.end() || at->second.ended_ns == 0) return;
  Mate& mate = at->second;
  mate.expected = false;
  const uint64_t gap_ns = now_ns - std::exchange(mate.ended_ns, 0);
  const bool in_vain = std::exchange(mate.in_vain, false);
  if (gap_ns > kGapMaxNs) {
    if (!in_vain) return;
    mate.owed = mate.penalty = std::min(2 * mate.penalty, kPenaltyMax);
    mate.kept = 0;
    return;
  }
  mate.gap_ns = mate.gap_ns == 0 ? gap_ns : mate.gap_ns / 2 + gap_ns / 2;
  if (gap_ns > patience_ns(mate.step_ns)) return;
  if (mate.owed > 0) {
    --mate.owed;
  } else if (++mate.kept == kPenaltyMax) {
    mate.penalty = 1;
  }
}

uint64_t Gathering::wait_until(uint64_t company, uint64_t now_ns) {
  uint64_t step_ns = 0;
  for (const auto& [session, mate] : mates_) {
    if (mate.expected && mate.company == company) step_ns = std::max(step_ns, mate.step_ns);
  }
  if (step_ns == 0) return 0;
  if (since_ns_ == 0) since_ns_ = now_ns;
  const uint64_t until_ns = since_ns_ + patience_ns(step_ns);
  if (now_ns < until_ns) return until_ns;
  for (auto& [session, mate] : mates_) {
    if (mate.company != company || !std::exchange(mate.expected, false)) continue;
    mate.in_vain = true;
  }
  return 0;
}

}  // namespace djinn::server
