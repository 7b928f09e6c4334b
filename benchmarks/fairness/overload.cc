// SPDX-License-Identifier: Apache-2.0
// More requests than the server can answer: how many of them it still answers in time.
//
// A request is one job of some milliseconds, and worth nothing behind its deadline. Ours is told
// the deadline (set_deadline); the other arm is a server as most are: first come, first served, and
// nobody is turned away.
#include <algorithm>
#include <array>
#include <stdexcept>

#include "benchmarks/fairness/bench.h"
#include "benchmarks/harness/statistics.h"

namespace djinn::benchmarks {
namespace {

constexpr uint32_t kSessionsMax = 1000;  // More requests at a time wait for one.
constexpr double kServicesToDeadline =
    15;  // A request is worth something for so many of its times.
constexpr uint64_t kClosedPlays = 100;
constexpr uint32_t kConcurrency = 10;
constexpr std::array kLoads{0.9, 2.0, 4.0};  // of what the server can do
constexpr size_t kFourfold = 2;

struct Ladder {
  double service_s = 0;  // The device works so long for a request.
  double seconds = 0;    // of each load
  uint64_t seed = 0;
  bool told = false;  // The server knows the deadline.

  [[nodiscard]] double deadline_ms() const { return kServicesToDeadline * service_s * 1e3; }
};

trace::Outcome offer(FairnessBench& bench, const House& house, const Ladder& ladder, double load) {
  const double rate = load / ladder.service_s;
  trace::Load play{.server = house.address(),
                   .seconds = ladder.seconds + ladder.deadline_ms() * 1e-3,
                   .seed = ladder.seed};
  for (const char* const tenant : kTenants) {
    play.parts.push_back(
        {.trace = &bench.traces.of("score"),
         .token = tenant,
         .sessions = kSessionsMax / kTenants.size(),
         .rate = rate / kTenants.size(),
         .plays = static_cast<uint64_t>(rate * ladder.seconds) / kTenants.size(),
         .deadline_ms = ladder.told ? static_cast<uint32_t>(ladder.deadline_ms()) : 0});
  }
  auto outcome = trace::drive(play);
  if (!outcome) throw std::runtime_error(outcome.error().message);
  for (const trace::Tally& tally : outcome->parts) {
    if (tally.different > 0) throw std::runtime_error(tally.first_difference);
    for (const auto& [code, count] : tally.errors) {
      if (code != ErrorCode::kDeadline) throw std::runtime_error(tally.first_error);
    }
  }
  return std::move(*outcome);
}

// Requests a second that were answered in time, counted from when they were due.
double goodput(const trace::Outcome& outcome, const Ladder& ladder) {
  uint64_t in_time = 0;
  for (const trace::Tally& tally : outcome.parts) {
    in_time += tally.play.within(ladder.deadline_ms());
  }
  return static_cast<double>(in_time) / ladder.seconds;
}

// How long the device works for a request; so many at a time, and all are answered.
double service_s(FairnessBench& bench, const House& house) {
  return house.seconds_per_play({.trace = &bench.traces.of("score"),
                                 .token = kTenants[0],
                                 .sessions = kConcurrency,
                                 .plays = kClosedPlays});
}

struct Seen {
  Samples at_two{.arm = "overload"};
  Samples at_four{.arm = "overload"};
  Samples collapse{.arm = "overload"};
  Samples told_ms{.arm = "overload"};
  std::vector<double> peaks;
};

void measure_round(FairnessBench& bench, const Ladder& ours, Seen& seen) {
  Ladder fcfs = ours;
  fcfs.told = false;
  std::array<double, kLoads.size()> good{};
  trace::Latencies told;
  for (size_t i = 0; i < kLoads.size(); ++i) {
    const trace::Outcome outcome = offer(bench, bench.ours, ours, kLoads.at(i));
    good.at(i) = goodput(outcome, ours);
    for (const trace::Tally& tally : outcome.parts) {
      told.add(tally.late);
      seen.at_two.n += tally.jobs;
    }
  }
  const double again = goodput(offer(bench, bench.ours, ours, kLoads[0]), ours);
  const double crowd = goodput(offer(bench, bench.fcfs, fcfs, kLoads[kFourfold]), fcfs);
  const double peak = *std::ranges::max_element(good);
  const double null = again / good[0];
  seen.peaks.push_back(peak * ours.service_s);
  for (auto [samples, value] : {std::pair{&seen.at_two, good[1]},
                                {&seen.at_four, good[kFourfold]},
                                {&seen.collapse, crowd}}) {
    samples->value.push_back(value / peak);
    samples->null.push_back(null);
  }
  seen.told_ms.value.push_back(told.percentile(bench.quick ? 0.95 : 0.99));
  seen.at_four.n = seen.collapse.n = seen.told_ms.n = seen.at_two.n;
}

}  // namespace

void measure_overload(FairnessBench& bench) {
  Ladder ladder{
      .service_s = service_s(bench, bench.ours), .seconds = bench.quick ? 0.7 : 10.0, .told = true};
  (void)service_s(bench, bench.fcfs);
  Seen seen;
  Rounds rounds(bench.rounds);
  rounds.run([&](int round) {
    ladder.seed = static_cast<uint64_t>(round) + 1;
    measure_round(bench, ladder, seen);
  });
  bench.report.count(rounds);
  const auto ratio = [](const char* id, double must, double aim) {
    return Promise{.id = id, .unit = "ratio", .better = Better::kHigher, .must = must, .aim = aim};
  };
  bench.report.add({judge(
      ratio("G5.4 requests in time at 2x of what the server can do, over the most", 0.85, 0.97),
      seen.at_two)});
  bench.report.add({judge(ratio("G5.4b the same at 4x", 0.80, 0.95), seen.at_four)});
  bench.report.add({judge({.id = "G5.4c the same at 4x, first come first served",
                           .unit = "ratio",
                           .must = 0.3,
                           .aim = 0.1},
                          seen.collapse)});
  bench.report.add({judge({.id = bench.quick ? "G5.6 P95 from a job to the word that it is late"
                                             : "G5.6 P99 from a job to the word that it is late",
                           .unit = "ms",
                           .must = 10,
                           .aim = 2},
                          seen.told_ms)});
  bench.report.note("overload: a request takes " + text_of(ladder.service_s * 1e3) +
                    " ms of the device and is worth something for " +
                    text_of(ladder.deadline_ms()) + " ms; the most in time is " +
                    text_of(median(seen.peaks)) + " of what the device alone can do; " +
                    std::to_string(kClosedPlays) + " of " + std::to_string(kClosedPlays) +
                    " requests at concurrency " + std::to_string(kConcurrency) + " were answered");
}

}  // namespace djinn::benchmarks
