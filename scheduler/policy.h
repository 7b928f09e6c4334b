// SPDX-License-Identifier: Apache-2.0
// Policy: whose job runs next, of those that could.
//
// Why so small: a policy has no clock, no lock, no thread and no job, so that a thousand tenants
// and an hour of load are a loop in a test (scheduler/virtual_device.h). It decides once per job,
// and again after each chunk of one. One policy is one file in scheduler/policies/ and one line in
// scheduler/policies/list.inc (docs/adding-a-policy.md).
// Ownership: borrows lanes, from `enter` to `leave`. Threading: plain value; the owner locks.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/lane.h"
#include "serialization/base/result.h"

namespace djinn::sched {

// Why a lane was chosen: the rule that said so, and the numbers it looked at. Texts are literals.
struct Why {
  static constexpr size_t kTermsMax = 5;
  struct Term {
    std::string_view name = {};  // Empty: there is none.
    uint64_t value = 0;
  };
  std::string_view rule = {};
  std::array<Term, kTermsMax> terms = {};
};

struct Choice {
  Lane* lane = nullptr;        // Null: nobody, or not yet.
  uint64_t hold_until_ns = 0;  // If null: the device rests until then, though somebody waits.
  Why why = {};
};

class Policy {
 public:
  virtual ~Policy() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  // Tenants of one class get device time in proportion to their weights, within a job's length.
  [[nodiscard]] virtual bool is_fair() const { return false; }
  // The longest that it lets the device rest while somebody waits.
  [[nodiscard]] virtual uint64_t hold_max_ns() const { return 0; }

  // The lane's first job may run: it is a candidate until `leave`.
  virtual void enter(Lane& lane, uint64_t now_ns) = 0;
  virtual void leave(Lane& lane) = 0;
  // One of the candidates, which stays one until `leave`.
  [[nodiscard]] virtual Choice choose(uint64_t now_ns) = 0;
  // The candidate's `move_ns` is another one now.
  virtual void moved(Lane& /*lane*/) {}
  // Of two candidates of one class, the first would be chosen before the second.
  [[nodiscard]] virtual bool before(const Lane& a, const Lane& b) const { return a.key < b.key; }
  // The lane has used the device for so long; it may be a candidate again.
  virtual void charge(Lane& /*lane*/, uint64_t /*used_ns*/) {}
  // Its last job has ended, and none waits.
  virtual void rest(Lane& /*lane*/, uint64_t /*now_ns*/) {}
  // It never comes back. It is no candidate now.
  virtual void forget(Lane& /*lane*/) {}
};

struct PolicyInfo {
  std::string name;
  std::string help;  // one clause
};
[[nodiscard]] const std::vector<PolicyInfo>& policies();
[[nodiscard]] const std::vector<std::string>& policy_names();
[[nodiscard]] const std::string& policies_help();  // one clause for each
// kInvalid lists the names.
Result<std::unique_ptr<Policy>> make_policy(std::string_view name);

}  // namespace djinn::sched
