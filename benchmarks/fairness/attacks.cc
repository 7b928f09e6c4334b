// SPDX-License-Identifier: Apache-2.0
// Ways to get in the others' way: how long three tenants whose requests take half of the device
// wait for their first token while a fourth does what no program should.
//
// An operator is never interrupted, so an attacked tenant may wait for the attacker's longest one
// once: this floor is taken off, and printed. Threading: attackers that are no traces have a thread
// of their own.
#include <algorithm>
#include <functional>
#include <thread>
#include <vector>

#include "benchmarks/fairness/bench.h"
#include "benchmarks/fairness/rude.h"
#include "benchmarks/harness/statistics.h"

namespace djinn::benchmarks {
namespace {

constexpr double kConnectionsPerSecond = 2000;

struct Attack {
  std::string name;
  std::vector<trace::Part> parts = {};  // in the background
  std::vector<RudeLoad> rude = {};
};

trace::Part attacker(FairnessBench& bench, const std::string& kind, uint32_t sessions) {
  return {.trace = &bench.traces.of(kind),
          .token = kTenants.back(),
          .sessions = sessions,
          .background = true};
}

RudeLoad rude(FairnessBench& bench, const std::string& kind, Manners manners, size_t connections) {
  return {.server = bench.ours.address(),
          .token = kTenants.back(),
          .trace = &bench.traces.of(kind),
          .manners = manners,
          .connections = connections};
}

std::vector<Attack> attacks(FairnessBench& bench) {
  std::vector<Attack> out{
      {.name = "endless decodes", .parts = {attacker(bench, "chat", 40)}},
      {.name = "tiny operators", .parts = {attacker(bench, "tiny", 10)}},
  };
  if (bench.quick) return out;
  trace::Part strangers = attacker(bench, "request", 64);
  strangers.token = "nobody's";
  strangers.rate = kConnectionsPerSecond;
  out.push_back({.name = "ten sessions of one account", .parts = {attacker(bench, "request", 10)}});
  out.push_back({.name = "huge operators", .parts = {attacker(bench, "huge", 4)}});
  out.push_back({.name = "connections", .parts = {strangers}});
  out.push_back({.name = "memory hog", .parts = {attacker(bench, "hog", 4)}});
  out.push_back({.name = "slow readers", .rude = {rude(bench, "wide", Manners::kDoesNotRead, 8)}});
  out.push_back({.name = "cancel storm", .rude = {rude(bench, "tiny", Manners::kHangsUp, 16)}});
  return out;
}

trace::Outcome attacked(const House& house, trace::Load load, const Attack& attack) {
  load.parts.insert(load.parts.end(), attack.parts.begin(), attack.parts.end());
  std::vector<std::jthread> threads;
  for (const RudeLoad& each : attack.rude) {
    threads.emplace_back([&](const std::stop_token& stop) { (void)be_rude(each, stop); });
  }
  return house.play(load);
}

// What the attacker got: who gets nothing has attacked nobody.
std::string told(const trace::Outcome& outcome) {
  if (outcome.parts.size() <= kVictims) return "";
  const trace::Tally& tally = outcome.parts.back();
  std::string out = "; the attacker had " + std::to_string(tally.answers) + " answers to " +
                    std::to_string(tally.jobs) + " jobs";
  for (const auto& [code, count] : tally.errors) {
    out += ", " + std::to_string(count) + " of its sessions ended as " + trace::name(code);
  }
  return out;
}

struct Figures {
  Samples ratio;
  std::vector<double> p95_ms = {};
  double floor_ms = 0;
  std::string told = {};
};

void add(FairnessBench& bench, const std::vector<Figures>& all, double alone_ms) {
  std::vector<Goal> goals;
  for (const Figures& each : all) {
    goals.push_back(judge({.id = "G7.5 others' P95 to the first token less the floor, over alone",
                           .unit = "ratio",
                           .must = 2,
                           .aim = 1.25},
                          each.ratio));
    bench.report.note(each.ratio.arm + ": P95 to the first token " + text_of(median(each.p95_ms)) +
                      " ms where it is " + text_of(alone_ms) + " ms alone; floor " +
                      text_of(each.floor_ms) + " ms" + each.told);
  }
  bench.report.add(std::move(goals));
}

}  // namespace

void measure_attacks(FairnessBench& bench) {
  const double request_s = warm_up(bench, bench.ours);
  Requests requests{.per_second = 0.5 / kVictims / request_s,
                    .each = bench.quick ? uint64_t{30} : uint64_t{60}};
  const std::vector<Attack> asked = attacks(bench);
  std::vector<Figures> all(asked.size());
  for (size_t i = 0; i < asked.size(); ++i) all[i].ratio.arm = asked[i].name;
  std::vector<double> alone_ms;
  Rounds rounds(bench.rounds);
  rounds.run([&](int round) {
    requests.seed = static_cast<uint64_t>(round) + 101;
    const trace::Load load = victims(bench, requests);
    const double first = first_token_p95(bench.ours.play(load));
    for (size_t i = 0; i < asked.size(); ++i) {
      const trace::Outcome outcome = attacked(bench.ours, load, asked[i]);
      Figures& figures = all[i];
      figures.p95_ms.push_back(first_token_p95(outcome));
      figures.told = told(outcome);
      figures.floor_ms = std::max(figures.floor_ms, bench.ours.longest_operator_s() * 1e3);
      figures.ratio.n += kVictims * requests.each;
    }
    const double second = first_token_p95(bench.ours.play(load));
    const double alone = (first + second) / 2;
    alone_ms.push_back(alone);
    for (Figures& each : all) {
      each.ratio.value.push_back((each.p95_ms.back() - each.floor_ms) / alone);
      each.ratio.null.push_back(second / first);
    }
  });
  bench.report.count(rounds);
  add(bench, all, median(alone_ms));
}

}  // namespace djinn::benchmarks
