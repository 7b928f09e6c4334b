// SPDX-License-Identifier: Apache-2.0
// bench_oom: work larger than the device.
#include <ATen/Parallel.h>

#include "benchmarks/harness/machine.h"
#include "benchmarks/harness/program.h"
#include "benchmarks/memory/bench.h"

namespace djinn::benchmarks {
namespace {

constexpr Part<OomBench> kParts[] = {{"oversize", measure_oversize},
                                     {"ladder", measure_ladder, false},
                                     {"emulated", measure_emulated, false},
                                     {"cliff", measure_cliff}};

struct Arguments {
  std::string child;
  int64_t batch = 0;
};

int run(Program& program, const Arguments& arguments) {
  at::set_num_threads(1);
  if (arguments.child == "naive") return naive_child(arguments.batch);
  Report& report = program.report();
  OomBench bench{.rounds = program.rounds(), .quick = program.quick(), .report = report};
  describe_machine(report);
  report.setting("rounds", bench.rounds);
  report.setting("device", "cpu-standin");
  report.setting("threads", "1 here, 1 in each server, 1 that moves");
  program.measure<OomBench>(kParts, bench);
  return program.finish();
}

int start(int argc, char** argv) {
  Program program("bench_oom",
                  "What happens when work is larger than the device: ratios measured in this run\n"
                  "with interleaved arms.",
                  {.full = 15, .quick = 3});
  program.add_parts<OomBench>(kParts);
  Arguments arguments;
  program.app().add_option("--child", arguments.child)->group("");
  program.app().add_option("--batch", arguments.batch)->group("");
  return program.main(argc, argv, [&] { return run(program, arguments); });
}

}  // namespace
}  // namespace djinn::benchmarks

// NOLINTNEXTLINE(bugprone-exception-escape): then it ends, loudly.
int main(int argc, char** argv) { return djinn::benchmarks::start(argc, argv); }
