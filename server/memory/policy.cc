// SPDX-License-Identifier: Apache-2.0
#include "server/memory/policy.h"

#include <algorithm>

namespace djinn::server {
namespace {

constexpr double kRests = 1e12;  // farther than any plan reaches
constexpr double kDirty = 0.5;   // Copying them out first makes bytes stay longer.

// Farthest next use first (Belady, 1966: the fewest loads if the future is known; plans repeat, so
// it is).
class PlanAware final : public MemoryPolicy {
 public:
  [[nodiscard]] std::string_view name() const override { return "plan"; }
  [[nodiscard]] bool prefetches() const override { return true; }
  [[nodiscard]] double rank(const Candidate& candidate, uint64_t now) const override {
    return distance(candidate, now) * (candidate.clean || candidate.rests ? 1 : kDirty);
  }
};

class LeastRecentlyUsed final : public MemoryPolicy {
 public:
  [[nodiscard]] std::string_view name() const override { return "lru"; }
  [[nodiscard]] double rank(const Candidate& candidate, uint64_t now) const override {
    if (candidate.rests) return distance(candidate, now);
    return static_cast<double>(now - std::min(candidate.last_use, now));
  }
};

// What does not fit is refused.
class None final : public MemoryPolicy {
 public:
  [[nodiscard]] std::string_view name() const override { return "none"; }
  [[nodiscard]] bool evicts() const override { return false; }
  [[nodiscard]] double rank(const Candidate& /*candidate*/, uint64_t /*now*/) const override {
    return 0;
  }
};

}  // namespace

double distance(const Candidate& candidate, uint64_t now) {
  if (candidate.rests) return 4 * kRests;
  if (candidate.next_use == kNeverUsed) return 2 * kRests;
  if (candidate.next_use >= now) return static_cast<double>(candidate.next_use - now);
  return kRests + static_cast<double>(now - candidate.next_use);
}

const std::vector<std::string>& policy_names() {
  static const std::vector<std::string> names{"plan", "lru", "none"};
  return names;
}

Result<std::unique_ptr<MemoryPolicy>> make_policy(std::string_view name) {
  if (name == "plan") return std::unique_ptr<MemoryPolicy>(std::make_unique<PlanAware>());
  if (name == "lru") return std::unique_ptr<MemoryPolicy>(std::make_unique<LeastRecentlyUsed>());
  if (name == "none") return std::unique_ptr<MemoryPolicy>(std::make_unique<None>());
  std::string text = "memory-policy: '" + std::string(name) + "' is none of";
  for (const std::string& each : policy_names()) text += " " + each;
  return Error{ErrorCode::kInvalid, std::move(text)};
}

}  // namespace djinn::server
