// SPDX-License-Identifier: Apache-2.0
// bench_colocate's parts: somebody who waits for each token, and a training that has all day, on
// one server.
//
// Requests are plays of a trace and compared with what was recorded; the training is a process,
// whose losses are compared with those it has alone. Threading: one thread, where a part does not
// say otherwise.
#pragma once

#include "benchmarks/fairness/scene.h"
#include "benchmarks/harness/report.h"

namespace djinn::benchmarks {

struct ColocateBench {
  int rounds = 0;
  bool quick = false;
  Report& report;
  Scratch scratch = {};
  Traces traces{scratch};
};

// G1.1-G1.3, G1.5, G1.9: requests beside a training, with our scheduler and with fcfs.
void measure_beside(ColocateBench& bench);
// G1.7: two tenants that always have work, of which one has three times the other's weight.
void measure_weights(ColocateBench& bench);

}  // namespace djinn::benchmarks
