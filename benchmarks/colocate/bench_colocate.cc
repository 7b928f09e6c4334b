// SPDX-License-Identifier: Apache-2.0
// bench_colocate: a decoding tenant and a training one on one server.
#include <ATen/Parallel.h>

#include "benchmarks/colocate/bench.h"
#include "benchmarks/harness/machine.h"
#include "benchmarks/harness/program.h"

namespace djinn::benchmarks {
namespace {

constexpr Part<ColocateBench> kParts[] = {{"beside", measure_beside}, {"weights", measure_weights}};

int run(Program& program) {
  at::set_num_threads(1);
  Report& report = program.report();
  describe_machine(report);
  ColocateBench bench{.rounds = program.rounds(), .quick = program.quick(), .report = report};
  report.setting("rounds", bench.rounds);
  report.setting("requests", "plays of a trace; the training is a process: train_gcn");
  report.setting("threads", "1 in each server");
  program.measure<ColocateBench>(kParts, bench);
  return program.finish();
}

int start(int argc, char** argv) {
  Program program("bench_colocate",
                  "A tenant who waits for each token beside one that trains, on one server:\n"
                  "ratios to each of them alone, measured in this run with interleaved arms.",
                  {.full = 5, .quick = 3});
  program.add_parts<ColocateBench>(kParts);
  return program.main(argc, argv, [&] { return run(program); });
}

}  // namespace
}  // namespace djinn::benchmarks

// NOLINTNEXTLINE(bugprone-exception-escape): then it ends, loudly.
int main(int argc, char** argv) { return djinn::benchmarks::start(argc, argv); }
