// SPDX-License-Identifier: Apache-2.0
// djinn-opscan: writes the allow-list of operators from the LibTorch it is linked with.
//
//   djinn-opscan > operators/allowed_operators.txt    the names that may run
//   djinn-opscan --refused                            the others, each with the reason
//   djinn-opscan --check                              what the list in this build says differently
#include <algorithm>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "operators/allow_list.h"
#include "operators/census.h"
#include "server/torch/operator_rules.h"

namespace {

struct Verdict {
  std::string name;
  std::string reason;  // "" if it may run
};

std::vector<Verdict> scan() {
  std::vector<Verdict> verdicts;
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findSchema(name);
    if (op) verdicts.push_back({djinn::operators::operator_name(*op), djinn::server::refusal(*op)});
  }
  std::ranges::sort(verdicts, {}, &Verdict::name);
  return verdicts;
}

int check(const std::vector<Verdict>& verdicts) {
  int differences = 0;
  for (const Verdict& verdict : verdicts) {
    const bool listed = djinn::operators::is_allowed(verdict.name);
    if (listed == verdict.reason.empty()) continue;
    ++differences;
    std::cout << (listed ? "- " : "+ ") << verdict.name << "  " << verdict.reason << "\n";
  }
  return differences == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  const std::vector<Verdict> verdicts = scan();
  if (mode == "--check") return check(verdicts);
  for (const Verdict& verdict : verdicts) {
    if (mode == "--refused" && !verdict.reason.empty()) {
      std::cout << verdict.name << "  " << verdict.reason << "\n";
    } else if (mode.empty() && verdict.reason.empty()) {
      std::cout << verdict.name << "\n";
    }
  }
  return 0;
}
