// SPDX-License-Identifier: Apache-2.0
#include "scheduler/policy.h"

namespace djinn::sched {

#define DJINN_POLICY(name, help) std::unique_ptr<Policy> make_##name();
#include "scheduler/policies/list.inc"
#undef DJINN_POLICY

namespace {

struct Listed {
  const char* name;
  const char* help;
  std::unique_ptr<Policy> (*make)();
};
constexpr Listed kListed[] = {
#define DJINN_POLICY(name, help) {#name, help, make_##name},
#include "scheduler/policies/list.inc"
#undef DJINN_POLICY
};

}  // namespace

const std::vector<PolicyInfo>& policies() {
  static const std::vector<PolicyInfo> all = [] {
    std::vector<PolicyInfo> out;
    for (const Listed& each : kListed) out.push_back({.name = each.name, .help = each.help});
    return out;
  }();
  return all;
}

const std::vector<std::string>& policy_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Listed& each : kListed) out.emplace_back(each.name);
    return out;
  }();
  return names;
}

const std::string& policies_help() {
  static const std::string help = [] {
    std::string out;
    for (const Listed& each : kListed) {
      out += (out.empty() ? "" : "; ") + std::string(each.name) + ", " + each.help;
    }
    return out;
  }();
  return help;
}

Result<std::unique_ptr<Policy>> make_policy(std::string_view name) {
  std::string names;
  for (const Listed& each : kListed) {
    if (name == each.name) return each.make();
    names += (names.empty() ? "" : ", ") + std::string(each.name);
  }
  return Error{ErrorCode::kInvalid, "\"" + std::string(name) + "\" is none of " + names};
}

}  // namespace djinn::sched
