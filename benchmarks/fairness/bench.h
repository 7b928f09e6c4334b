// SPDX-License-Identifier: Apache-2.0
// bench_fairness's parts: tenants that share a server with one that wants more than its part.
//
// A tenant is a trace that is played; what it is answered is compared with what was recorded, so a
// tenant that is served late and wrong fails the run. Threading: one thread, where a part does not
// say otherwise.
#pragma once

#include <string>

#include "benchmarks/fairness/scene.h"
#include "benchmarks/harness/report.h"

namespace djinn::benchmarks {

struct FairnessBench {
  int rounds = 0;
  bool quick = false;
  Report& report;
  Scratch scratch = {};
  Traces traces{scratch};
  House ours{scratch, "semantic"};
  House fcfs{scratch, "fcfs"};
};

// G7.1, G7.2, G7.4: everybody always has work, and one has ten times as many sessions.
void measure_shares(FairnessBench& bench);
// G7.3: three tenants that are not always there, and one that sends ten times as much as each.
void measure_flood(FairnessBench& bench);
// G5.4, G5.6: more requests than the server can answer, each with a deadline.
void measure_overload(FairnessBench& bench);
// G7.5: other ways to get in the others' way.
void measure_attacks(FairnessBench& bench);

// The requests of the three victims, which fall due at moments that depend on the seed alone.
struct Requests {
  double per_second = 0;  // of each
  uint64_t each = 0;      // so many
  uint64_t seed = 0;
};
[[nodiscard]] trace::Load victims(FairnessBench& bench, const Requests& requests);
// How long the device works for a request when nobody else is there; seconds. All that is needed
// once is there then, too: weights, plans, memory.
[[nodiscard]] double warm_up(FairnessBench& bench, const House& house);
// Milliseconds: from when a request was due to its first token, of all three together.
[[nodiscard]] double first_token_p95(const trace::Outcome& outcome);

}  // namespace djinn::benchmarks
