// SPDX-License-Identifier: Apache-2.0
// Two tenants that always have work, of which one has three times the other's weight: how far from
// three to one the device's time was shared.
#include <cmath>

#include "benchmarks/colocate/bench.h"
#include "benchmarks/harness/statistics.h"

namespace djinn::benchmarks {
namespace {

constexpr double kWeight = 3;
constexpr uint32_t kSessions = 8;  // of each
constexpr std::chrono::milliseconds kPeriod{50};
constexpr double kComingS = 0.5;  // until everybody has work

constexpr const char* kConfig = R"(device-memory = "512MiB"
host-memory = "1GiB"

[tenants.ann]
weight = 3
)";

// What the first had for each second that the second had.
double share(ColocateBench& bench, const House& house, double seconds) {
  trace::Load load{.seconds = kComingS + seconds};
  for (size_t i = 0; i < 2; ++i) {
    load.parts.push_back(
        {.trace = &bench.traces.of("request"), .token = kTenants.at(i), .sessions = kSessions});
  }
  Sampler sampler(house, kPeriod);
  (void)house.play(load);
  std::vector<Use> seen = sampler.stop();
  const double from = seen.front().at_s + kComingS;
  std::erase_if(seen, [&](const Use& use) { return use.at_s < from || use.at_s > from + seconds; });
  const auto had = [&](size_t tenant) {
    return seen.back().used_s.at(tenant) - seen.front().used_s.at(tenant);
  };
  return had(0) / had(1);
}

}  // namespace

void measure_weights(ColocateBench& bench) {
  const House house(bench.scratch, "wfq", kConfig);
  Samples error{.arm = "3:1"};
  std::vector<double> shares;
  Rounds rounds(bench.rounds);
  const double seconds = bench.quick ? 2 : 10;
  (void)share(bench, house, 0.5);
  rounds.run([&](int) {
    shares.push_back(share(bench, house, seconds));
    error.value.push_back(std::abs(shares.back() / kWeight - 1));
    error.n += static_cast<uint64_t>(seconds * 1e3);
  });
  bench.report.count(rounds);
  bench.report.add(
      {judge({.id = "G1.7 shares 3:1, how far from it", .unit = "ratio", .must = 0.03, .aim = 0.01},
             error)});
  bench.report.note("weights: of a second of the one, the other had " + text_of(median(shares), 3) +
                    " (policy wfq)");
}

}  // namespace djinn::benchmarks
