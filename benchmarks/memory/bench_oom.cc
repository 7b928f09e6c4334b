// SPDX-License-Identifier: Apache-2.0
// bench_oom: work larger than the device.
#include <CLI/CLI.hpp>
#include <iostream>

#include <ATen/Parallel.h>

#include "benchmarks/harness/machine.h"
#include "benchmarks/memory/bench.h"

namespace djinn::benchmarks {
namespace {

struct Part {
  const char* name;
  void (*measure)(OomBench&);
  bool quick;  // also of --quick, if --only names nothing
};
constexpr Part kParts[] = {{"oversize", measure_oversize, true},
                           {"ladder", measure_ladder, false},
                           {"emulated", measure_emulated, false},
                           {"cliff", measure_cliff, true}};

struct Arguments {
  std::vector<std::string> only;
  std::string child;
  int64_t batch = 0;
  int rounds = 0;
  bool quick = false;
  bool json = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  std::vector<std::string> names;
  for (const Part& part : kParts) names.emplace_back(part.name);
  app.add_option("--only", arguments.only, "Parts to measure (default: all)")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  app.add_option("--rounds", arguments.rounds,
                 "Rounds of interleaved arms (default 15; --quick: 3)")
      ->check(CLI::Range(3, 10'000));
  app.add_flag("--quick", arguments.quick,
               "3 rounds of oversize and cliff; of the rest only what --only names");
  app.add_option("--child", arguments.child)->group("");
  app.add_option("--batch", arguments.batch)->group("");
  app.add_flag("--json", arguments.json, "Print one JSON object and nothing else");
}

bool is_asked_for(const Part& part, const Arguments& arguments) {
  if (arguments.only.empty()) return part.quick || !arguments.quick;
  return std::ranges::find(arguments.only, part.name) != arguments.only.end();
}

int run(const Arguments& arguments) {
  at::set_num_threads(1);
  if (arguments.child == "naive") return naive_child(arguments.batch);
  Report report("bench_oom");
  OomBench bench{.rounds = arguments.rounds > 0 ? arguments.rounds
                           : arguments.quick    ? 3
                                                : 15,
                 .quick = arguments.quick,
                 .report = report};
  describe_machine(report);
  report.setting("rounds", bench.rounds);
  report.setting("device", "cpu-standin");
  report.setting("threads", "1 here, 1 in each server, 1 that moves");
  for (const Part& part : kParts) {
    if (!is_asked_for(part, arguments)) continue;
    std::cerr << "bench_oom: " << part.name << " ..." << std::endl;
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
      "What happens when work is larger than the device: ratios measured in this run with\n"
      "interleaved arms. Exit status: 0 if every goal is PASS, 1 if one is not, 2 if it could not "
      "be "
      "measured.");
  djinn::benchmarks::Arguments arguments;
  djinn::benchmarks::add_options(app, arguments);
  CLI11_PARSE(app, argc, argv);
  try {
    return djinn::benchmarks::run(arguments);
  } catch (const std::exception& e) {
    std::cerr << "bench_oom: " << e.what() << std::endl;
    return 2;
  }
}
