// SPDX-License-Identifier: Apache-2.0
// Three tenants whose requests take a sixth of the device each, and one that sends ten times as
// many as each of them: how long the three wait for their first token.
#include <algorithm>
#include <span>
#include <stdexcept>

#include "benchmarks/fairness/bench.h"
#include "benchmarks/harness/statistics.h"

namespace djinn::benchmarks {
namespace {

constexpr uint32_t kSessionsMax = 32;  // of a victim; more requests at a time wait for one
constexpr uint64_t kWarmPlays = 20;

trace::Part flood(FairnessBench& bench, double per_second) {
  return {.trace = &bench.traces.of("request"),
          .token = kTenants.back(),
          .sessions = 40,
          .rate = 10 * per_second,
          .background = true};
}

}  // namespace

trace::Load victims(FairnessBench& bench, const Requests& requests) {
  trace::Load load{.seed = requests.seed};
  for (size_t i = 0; i < kVictims; ++i) {
    load.parts.push_back({.trace = &bench.traces.of("request"),
                          .token = kTenants.at(i),
                          .sessions = kSessionsMax,
                          .rate = requests.per_second,
                          .plays = requests.each});
  }
  return load;
}

double warm_up(FairnessBench& bench, const House& house) {
  const auto plays = [&](const char* tenant) {
    return trace::Part{.trace = &bench.traces.of("request"), .token = tenant, .plays = kWarmPlays};
  };
  for (const char* const other : std::span(kTenants).subspan(1)) {
    (void)house.play({.parts = {plays(other)}});
  }
  return house.seconds_per_play(plays(kTenants[0]));
}

double first_token_p95(const trace::Outcome& outcome) {
  trace::Latencies all;
  for (size_t i = 0; i < kVictims; ++i) all.add(outcome.parts[i].first_answer);
  return all.percentile(0.95);
}

void measure_flood(FairnessBench& bench) {
  const double request_s = warm_up(bench, bench.ours);
  (void)warm_up(bench, bench.fcfs);
  Requests requests{.per_second = 0.5 / kVictims / request_s,
                    .each = bench.quick ? uint64_t{20} : uint64_t{150}};
  Samples ratio{.arm = "flood"};
  std::vector<double> alone_ms;
  std::vector<double> attacked_ms;
  std::vector<double> fcfs_ms;
  Rounds rounds(bench.rounds);
  rounds.run([&](int round) {
    requests.seed = static_cast<uint64_t>(round) + 1;
    const trace::Load quiet = victims(bench, requests);
    trace::Load loud = quiet;
    loud.parts.push_back(flood(bench, requests.per_second));
    const double alone = first_token_p95(bench.ours.play(quiet));
    const double attacked = first_token_p95(bench.ours.play(loud));
    const double again = first_token_p95(bench.ours.play(quiet));
    fcfs_ms.push_back(first_token_p95(bench.fcfs.play(loud)));
    ratio.value.push_back(2 * attacked / (alone + again));
    ratio.null.push_back(again / alone);
    ratio.n += kVictims * requests.each;
    alone_ms.push_back(alone);
    attacked_ms.push_back(attacked);
  });
  bench.report.count(rounds);
  bench.report.add({judge({.id = "G7.3 others' P95 to the first token, flooded over alone",
                           .unit = "ratio",
                           .must = 1.5,
                           .aim = 1.15},
                          ratio)});
  bench.report.note("flood: a request takes " + text_of(request_s * 1e3) +
                    " ms of the device; P95 to the first token is " + text_of(median(alone_ms)) +
                    " ms alone, " + text_of(median(attacked_ms)) + " ms flooded, and " +
                    text_of(median(fcfs_ms)) + " ms flooded with fcfs");
}

}  // namespace djinn::benchmarks
