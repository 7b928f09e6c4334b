// SPDX-License-Identifier: Apache-2.0
// Memory policies: which bytes leave the device when room is wanted, and which come back unasked.
//
// Why objects: an operator compares them on a running server. To add one: a class here, a line in
// `make_policy`. Times are ticks: one per entry of a plan that the device has run.
// Threading: pure functions of their arguments.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "serialization/base/result.h"

namespace djinn::server {

inline constexpr uint64_t kNeverUsed = std::numeric_limits<uint64_t>::max();

// What is known of bytes that could leave the device.
struct Candidate {
  uint64_t bytes = 0;
  bool clean = false;  // The host has them too: they are dropped, not copied.
  uint64_t last_use = 0;
  uint64_t next_use = kNeverUsed;  // As the plans say; kNeverUsed: no plan is known to use them.
  bool rests = false;              // Their session said that it pauses.
};

class MemoryPolicy {
 public:
  virtual ~MemoryPolicy() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual bool evicts() const { return true; }
  // Bytes are brought in before an operator asks for them.
  [[nodiscard]] virtual bool prefetches() const { return false; }
  // The highest leaves first.
  [[nodiscard]] virtual double rank(const Candidate& candidate, uint64_t now) const = 0;
};

// In how many ticks the bytes are used next. Those whose predicted time has passed belong to a
// session that rests: the longer it does, the farther.
[[nodiscard]] double distance(const Candidate& candidate, uint64_t now);

[[nodiscard]] const std::vector<std::string>& policy_names();  // "plan", "lru", "none"
// kInvalid lists the names.
Result<std::unique_ptr<MemoryPolicy>> make_policy(std::string_view name);

}  // namespace djinn::server
