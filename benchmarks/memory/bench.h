// SPDX-License-Identifier: Apache-2.0
// bench_oom's parts: what happens when work is larger than the device.
//
// Each part starts the servers it compares, and talks to all of them in turn in every round.
// Threading: one thread.
#pragma once

#include <cstdint>

#include "benchmarks/harness/report.h"
#include "benchmarks/memory/servers.h"

namespace djinn::benchmarks {

struct OomBench {
  int rounds = 0;
  bool quick = false;
  Report& report;
};

// G3.4, G3.4b, G3.5, G3.6: a model of 3, 6 and 12 times the device, and demand paging.
void measure_oversize(OomBench& bench);
// G3.4 where the model hardly fits, or hardly does not: 0.73 to 2.17 times the device.
void measure_ladder(OomBench& bench);
// G3.4, G3.5 over a link as slow beside the memory as a GPU's.
void measure_emulated(OomBench& bench);
// G3.1: how large a batch may be.
void measure_cliff(OomBench& bench);
// What the naive arm of the cliff does in a process of its own; prints one line of JSON.
int naive_child(int64_t batch);

}  // namespace djinn::benchmarks
