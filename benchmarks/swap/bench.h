// SPDX-License-Identifier: Apache-2.0
// bench_swap's parts: many models, agents and caches on a device that holds few of them.
//
// Each part starts the servers it compares, and talks to all of them in turn in every round.
// Threading: one thread, where a part does not say otherwise.
#pragma once

#include <string>

#include "benchmarks/harness/report.h"
#include "benchmarks/memory/layers.h"
#include "benchmarks/memory/servers.h"

namespace djinn::benchmarks {

struct SwapBench {
  int rounds = 0;
  bool quick = false;
  Report& report;
};

// G4.2: the first pass of a model that was away.
void measure_switch(SwapBench& bench);
// G4.6, G4.7: requests for eight models where two fit.
void measure_zoo(SwapBench& bench);
// Agents that pause and go on, whose caches together are three times the device.
void measure_wake(SwapBench& bench);
// The first token of a server that was restarted, whose weights are on disk.
void measure_restart(SwapBench& bench);
// G4.8: one whose model stays, while others' come and go.
void measure_bystander(SwapBench& bench);

// What an app of the restarted server does in a process of its own; prints one line of JSON.
int restart_child(const std::string& server, const std::string& file);

}  // namespace djinn::benchmarks
