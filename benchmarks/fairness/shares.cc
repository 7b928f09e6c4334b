// SPDX-License-Identifier: Apache-2.0
// Four tenants that always have work, one of them with ten times as many sessions: what each gets
// of the device, window by window, how far they are apart, and what that costs in throughput.
#include <algorithm>
#include <cmath>

#include "benchmarks/fairness/bench.h"
#include "benchmarks/harness/statistics.h"

namespace djinn::benchmarks {
namespace {

constexpr uint32_t kSessions = 4;  // of a tenant; the attacker has ten times as many
constexpr std::chrono::milliseconds kPeriod{50};
// Of the policy semantic, and of --chunk-us.
constexpr double kQuantumS = 0.002;
constexpr double kHeadStartS = 0.004;
constexpr double kChunkS = 0.001;

struct Shares {
  double jain = 1;   // the least of the windows
  double gap_s = 0;  // the most by which two tenants drew apart
  double answers_per_s = 0;
};

double jain(const Use& from, const Use& to) {
  double sum = 0;
  double squares = 0;
  for (size_t i = 0; i < kTenants.size(); ++i) {
    const double used = to.used_s.at(i) - from.used_s.at(i);
    sum += used;
    squares += used * used;
  }
  return squares > 0 ? sum * sum / (static_cast<double>(kTenants.size()) * squares) : 1;
}

// The largest change of the difference of two tenants between any two moments.
double gap(const std::vector<Use>& seen) {
  double most = 0;
  for (size_t i = 0; i < kTenants.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const auto apart = [&](const Use& use) { return use.used_s.at(i) - use.used_s.at(j); };
      const auto [low, high] = std::ranges::minmax(seen, {}, apart);
      most = std::max(most, apart(high) - apart(low));
    }
  }
  return most;
}

double least_jain(const std::vector<Use>& seen, double window_s) {
  double least = 1;
  size_t begin = 0;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (seen[i].at_s - seen[begin].at_s < window_s) continue;
    least = std::min(least, jain(seen[begin], seen[i]));
    begin = i;
  }
  return least;
}

// While all four are at work: not the first half second, in which they come.
Shares shares(FairnessBench& bench, const House& house, double seconds, double window_s) {
  const trace::Trace& request = bench.traces.of("request");
  trace::Load load{.seconds = seconds + 0.5};
  for (size_t i = 0; i < kTenants.size(); ++i) {
    load.parts.push_back({.trace = &request,
                          .token = kTenants.at(i),
                          .sessions = i < kVictims ? kSessions : 10 * kSessions});
  }
  Sampler sampler(house, kPeriod);
  const trace::Outcome outcome = house.play(load);
  std::vector<Use> seen = sampler.stop();
  const double from = seen.front().at_s + 0.5;
  std::erase_if(seen, [&](const Use& use) { return use.at_s < from || use.at_s > from + seconds; });
  Shares out{.jain = least_jain(seen, window_s), .gap_s = gap(seen)};
  for (const trace::Tally& tally : outcome.parts) {
    out.answers_per_s += static_cast<double>(tally.answers) / outcome.seconds;
  }
  return out;
}

struct Figures {
  Samples jain{.arm = "shares"};
  Samples gap{.arm = "shares, over the bound"};
  Samples to_fcfs{.arm = "shares"};
  Samples throughput{.arm = "shares"};
  std::vector<double> fcfs_jain;
  std::vector<double> gap_ms;
  std::vector<double> fcfs_gap_ms;
};

void add(FairnessBench& bench, const Figures& figures) {
  bench.report.add({judge({.id = "G7.1 Jain, least of the windows",
                           .unit = "index",
                           .better = Better::kHigher,
                           .must = 0.97,
                           .aim = 0.995},
                          figures.jain)});
  bench.report.add(
      {judge({.id = "G7.2 service gap over the bound", .unit = "ratio", .must = 1, .aim = 0.6},
             figures.gap)});
  bench.report.add(
      {judge({.id = "G7.2 service gap over fcfs's", .unit = "ratio", .must = 0.1, .aim = 0.03},
             figures.to_fcfs)});
  bench.report.add({judge({.id = "G7.4 answers per second over fcfs",
                           .unit = "ratio",
                           .better = Better::kHigher,
                           .must = 0.97,
                           .aim = 1},
                          figures.throughput)});
}

}  // namespace

void measure_shares(FairnessBench& bench) {
  const double seconds = bench.quick ? 1.5 : 20.0;
  const double window_s = bench.quick ? 0.5 : 10.0;
  for (const House* const house : {&bench.ours, &bench.fcfs}) (void)warm_up(bench, *house);
  Figures figures;
  double bound_s = 0;
  Rounds rounds(bench.rounds);
  rounds.run([&](int) {
    const Shares ours = shares(bench, bench.ours, seconds, window_s);
    const Shares fcfs = shares(bench, bench.fcfs, seconds, window_s);
    const Shares again = shares(bench, bench.fcfs, seconds, window_s);
    // Either tenant may be ahead by a quantum, a head start and what was not interrupted.
    bound_s = 2 * (kQuantumS + kHeadStartS + kChunkS + bench.ours.longest_operator_s());
    figures.jain.value.push_back(ours.jain);
    figures.gap.value.push_back(ours.gap_s / bound_s);
    figures.to_fcfs.value.push_back(ours.gap_s / fcfs.gap_s);
    figures.to_fcfs.null.push_back(again.gap_s / fcfs.gap_s);
    figures.throughput.value.push_back(2 * ours.answers_per_s /
                                       (fcfs.answers_per_s + again.answers_per_s));
    figures.throughput.null.push_back(again.answers_per_s / fcfs.answers_per_s);
    figures.fcfs_jain.push_back(fcfs.jain);
    figures.gap_ms.push_back(ours.gap_s * 1e3);
    figures.fcfs_gap_ms.push_back(fcfs.gap_s * 1e3);
    const auto windows = static_cast<uint64_t>(seconds / window_s);
    for (Samples* const each : {&figures.jain, &figures.gap, &figures.to_fcfs}) each->n += windows;
    figures.throughput.n += static_cast<uint64_t>(ours.answers_per_s * seconds);
  });
  bench.report.count(rounds);
  add(bench, figures);
  bench.report.note("shares: windows of " + text_of(window_s, 1) + " s; fcfs has a Jain index of " +
                    text_of(median(figures.fcfs_jain)) + " and a gap of " +
                    text_of(median(figures.fcfs_gap_ms), 0) + " ms where ours is " +
                    text_of(median(figures.gap_ms), 1) + " ms and the bound " +
                    text_of(bound_s * 1e3, 1) + " ms");
}

}  // namespace djinn::benchmarks
