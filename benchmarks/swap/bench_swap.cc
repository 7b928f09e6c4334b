// SPDX-License-Identifier: Apache-2.0
// bench_swap: many models and little memory.
#include <CLI/CLI.hpp>
#include <iostream>

#include <ATen/Parallel.h>

#include "benchmarks/harness/machine.h"
#include "benchmarks/swap/bench.h"

namespace djinn::benchmarks {
namespace {

struct Part {
  const char* name;
  void (*measure)(SwapBench&);
};
constexpr Part kParts[] = {{"switch", measure_switch},
                           {"zoo", measure_zoo},
                           {"wake", measure_wake},
                           {"restart", measure_restart},
                           {"bystander", measure_bystander}};

struct Arguments {
  std::vector<std::string> only;
  std::string child;  // a server; this process is an app of it
  std::string file;
  int rounds = 0;
  bool quick = false;
  bool full = false;
  bool json = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  std::vector<std::string> names;
  for (const Part& part : kParts) names.emplace_back(part.name);
  app.add_option("--only", arguments.only, "Parts to measure (default: all)")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  app.add_option("--rounds", arguments.rounds, "Rounds of interleaved arms (default 9; --quick: 3)")
      ->check(CLI::Range(3, 10'000));
  auto* const quick = app.add_flag("--quick", arguments.quick, "3 rounds, shorter ones");
  app.add_flag("--full", arguments.full, "9 rounds (the default)")->excludes(quick);
  app.add_option("--child", arguments.child)->group("");
  app.add_option("--file", arguments.file)->group("");
  app.add_flag("--json", arguments.json, "Print one JSON object and nothing else");
}

bool is_asked_for(const Part& part, const Arguments& arguments) {
  return arguments.only.empty() ||
         std::ranges::find(arguments.only, part.name) != arguments.only.end();
}

int run(const Arguments& arguments) {
  at::set_num_threads(1);
  if (!arguments.child.empty()) return restart_child(arguments.child, arguments.file);
  Report report("bench_swap");
  SwapBench bench{.rounds = arguments.rounds > 0 ? arguments.rounds
                            : arguments.quick    ? 3
                                                 : 9,
                  .quick = arguments.quick,
                  .report = report};
  describe_machine(report);
  report.setting("rounds", bench.rounds);
  report.setting("device", "cpu-standin");
  report.setting("link", "native");
  report.setting("threads", "1 here, 1 in each server, 1 that moves");
  for (const Part& part : kParts) {
    if (!is_asked_for(part, arguments)) continue;
    std::cerr << "bench_swap: " << part.name << " ..." << std::endl;
    part.measure(bench);
  }
  if (arguments.json) {
    std::cout << report.json().dump() << std::endl;
  } else {
    report.print(std::cout);
  }
  return report.passed() ? 0 : 1;
}

}  // namespace
}  // namespace djinn::benchmarks

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): then it ends, loudly.
  CLI::App app(
      "Many models and little memory: ratios measured in this run with interleaved arms. Exit\n"
      "status: 0 if every goal is PASS, 1 if one is not, 2 if it could not be measured.");
  djinn::benchmarks::Arguments arguments;
  djinn::benchmarks::add_options(app, arguments);
  CLI11_PARSE(app, argc, argv);
  try {
    return djinn::benchmarks::run(arguments);
  } catch (const std::exception& e) {
    std::cerr << "bench_swap: " << e.what() << std::endl;
    return 2;
  }
}
