// SPDX-License-Identifier: Apache-2.0
// bench_fairness: four tenants of one server, and one of them wants more than its part.
#include <ATen/Parallel.h>

#include "benchmarks/fairness/bench.h"
#include "benchmarks/harness/machine.h"
#include "benchmarks/harness/program.h"

namespace djinn::benchmarks {
namespace {

constexpr Part<FairnessBench> kParts[] = {{"shares", measure_shares},
                                          {"flood", measure_flood},
                                          {"overload", measure_overload},
                                          {"attacks", measure_attacks, false}};

int run(Program& program) {
  at::set_num_threads(1);
  Report& report = program.report();
  describe_machine(report);
  FairnessBench bench{.rounds = program.rounds(), .quick = program.quick(), .report = report};
  report.setting("rounds", bench.rounds);
  report.setting("tenants", "four, from traces; one thread drives all");
  report.setting("threads", "1 in each server");
  program.measure<FairnessBench>(kParts, bench);
  return program.finish();
}

int start(int argc, char** argv) {
  Program program("bench_fairness",
                  "Four tenants of one server, of which one wants more than its part: ratios\n"
                  "measured in this run with interleaved arms.",
                  {.full = 5, .quick = 3});
  program.add_parts<FairnessBench>(kParts);
  return program.main(argc, argv, [&] { return run(program); });
}

}  // namespace
}  // namespace djinn::benchmarks

// NOLINTNEXTLINE(bugprone-exception-escape): then it ends, loudly.
int main(int argc, char** argv) { return djinn::benchmarks::start(argc, argv); }
