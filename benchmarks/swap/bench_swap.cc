// SPDX-License-Identifier: Apache-2.0
// bench_swap: many models and little memory.
#include <ATen/Parallel.h>

#include "benchmarks/harness/machine.h"
#include "benchmarks/harness/program.h"
#include "benchmarks/swap/bench.h"

namespace djinn::benchmarks {
namespace {

constexpr Part<SwapBench> kParts[] = {{"switch", measure_switch},
                                      {"zoo", measure_zoo},
                                      {"wake", measure_wake},
                                      {"restart", measure_restart},
                                      {"bystander", measure_bystander}};

struct Arguments {
  std::string child;  // a server; this process is an app of it
  std::string file;
};

int run(Program& program, const Arguments& arguments) {
  at::set_num_threads(1);
  if (!arguments.child.empty()) return restart_child(arguments.child, arguments.file);
  Report& report = program.report();
  SwapBench bench{.rounds = program.rounds(), .quick = program.quick(), .report = report};
  describe_machine(report);
  report.setting("rounds", bench.rounds);
  report.setting("device", "cpu-standin");
  report.setting("link", "native");
  report.setting("threads", "1 here, 1 in each server, 1 that moves");
  program.measure<SwapBench>(kParts, bench);
  return program.finish();
}

int start(int argc, char** argv) {
  Program program(
      "bench_swap",
      "Many models and little memory: ratios measured in this run with interleaved arms.",
      {.full = 9, .quick = 3});
  program.add_parts<SwapBench>(kParts);
  Arguments arguments;
  program.app().add_option("--child", arguments.child)->group("");
  program.app().add_option("--file", arguments.file)->group("");
  return program.main(argc, argv, [&] { return run(program, arguments); });
}

}  // namespace
}  // namespace djinn::benchmarks

// NOLINTNEXTLINE(bugprone-exception-escape): then it ends, loudly.
int main(int argc, char** argv) { return djinn::benchmarks::start(argc, argv); }
