// SPDX-License-Identifier: Apache-2.0
// A zoo of models: requests for eight of them, where two fit, by a trace that is drawn from a seed:
// popularity by Zipf's law, arrivals by Poisson's. Who moves models only when an operator asks for
// them, in the order of arrival, against the server's defaults.
//
// Goodput is the rate of requests that were answered in time, counted from when they were due,
// over a ladder of loads; an arm's goodput is that of its best rung. A load of 1 is as many
// requests a second as a device that holds all models can answer. Threading: a thread per session;
// each model has several, which share its weights.
#include <unistd.h>

#include <array>
#include <atomic>
#include <cmath>
#include <random>
#include <thread>

#include <ATen/ATen.h>

#include "benchmarks/harness/statistics.h"
#include "benchmarks/swap/bench.h"
#include "server/ctl/ask.h"

namespace djinn::benchmarks {
namespace {

constexpr size_t kModels = 8;
constexpr int kModelLayers = 2;  // 32 MiB
constexpr double kHeldModels = 2;
constexpr size_t kSessionsPerModel = 2;
constexpr size_t kSessions = kModels * kSessionsPerModel;
constexpr double kZipf = 0.9;
constexpr double kInTime = 8;  // passes where all fits
constexpr std::array kLoads{0.6, 0.9, 1.2};

enum Arm : size_t { kStays, kOurs, kOnDemand, kArms };

struct Request {
  double due_s = 0;
  size_t model = 0;
};
using Trace = std::vector<Request>;

Trace draw(uint64_t seed, size_t count, double per_second) {
  std::array<double, kModels> weights{};
  for (size_t i = 0; i < kModels; ++i) weights[i] = std::pow(static_cast<double>(i + 1), -kZipf);
  std::mt19937_64 random(seed);
  std::discrete_distribution<size_t> model(weights.begin(), weights.end());
  std::exponential_distribution<double> gap(per_second);
  Trace trace;
  double at = 0;
  for (size_t i = 0; i < count; ++i) {
    at += gap(random);
    trace.push_back({.due_s = at, .model = model(random)});
  }
  return trace;
}

struct Scene {
  const Servers& servers;
  std::vector<std::vector<Model>> models;  // by arm, then session
  at::Tensor x;
  double pass_s = 0;  // where all fits
};

struct Outcome {
  size_t in_time = 0;
  double seconds = 0;  // until the last answer
};

// Each request is taken by the first session of its model that is free.
Outcome replay(const Scene& scene, size_t arm, const Trace& trace) {
  std::array<std::vector<double>, kModels> due;
  for (const Request& each : trace) due[each.model].push_back(each.due_s);
  std::array<std::atomic<size_t>, kModels> next{};
  std::atomic<size_t> in_time = 0;
  const auto start = Clock::now() + std::chrono::milliseconds(5);
  std::vector<std::thread> threads;
  for (size_t session = 0; session < kSessions; ++session) {
    threads.emplace_back([&, session] {
      const at::NoGradGuard no_grad;
      const size_t model = session / kSessionsPerModel;
      const at::Device device = scene.servers.device(arm, session);
      for (size_t i = next[model]++; i < due[model].size(); i = next[model]++) {
        const auto at = start + std::chrono::nanoseconds(static_cast<int64_t>(due[model][i] * 1e9));
        std::this_thread::sleep_until(at);
        (void)step(scene.x, scene.models[arm][session], device);
        if (seconds_since(at) <= kInTime * scene.pass_s) ++in_time;
      }
    });
  }
  for (std::thread& each : threads) each.join();
  return {.in_time = in_time, .seconds = seconds_since(start)};
}

// Requests a second, of the best rung.
double goodput(const Scene& scene, size_t arm, const std::vector<Trace>& traces) {
  double best = 0;
  for (const Trace& trace : traces) {
    const Outcome outcome = replay(scene, arm, trace);
    best = std::max(best, static_cast<double>(outcome.in_time) / outcome.seconds);
  }
  return best;
}

transport::Address admin_of(Arm arm) {
  return {.kind = transport::Address::Kind::kUnix,
          .host = "/tmp/djinn-bench-swap-" + std::to_string(getpid()) + "-" + std::to_string(arm) +
                  ".sock"};
}

double bytes_moved_in(Arm arm) {
  const auto page = ctl::get(admin_of(arm), "/memory", std::chrono::seconds(10));
  if (!page) throw std::runtime_error(page.error().message);
  const auto moved = nlohmann::json::parse(*page).at("moved");
  return moved.at("loaded_bytes").get<double>() + moved.at("prefetched_bytes").get<double>();
}

Scene make_scene(const Servers& servers, int64_t batch) {
  Scene scene{.servers = servers,
              .models = std::vector<std::vector<Model>>(kArms, std::vector<Model>(kSessions)),
              .x = at::randn({batch, kWidth})};
  Model here;
  for (size_t session = 0; session < kSessions; ++session) {
    if (session % kSessionsPerModel == 0) here = random_layers(kModelLayers, 51 + session);
    for (size_t arm = 0; arm < kArms; ++arm) {
      const at::Device device = servers.device(arm, session);
      for (const at::Tensor& weight : here) scene.models[arm][session].push_back(weight.to(device));
      check(scene.x, here, scene.models[arm][session], device);
    }
  }
  std::vector<double> passes;
  for (int i = 0; i < 24; ++i) {
    const size_t session = static_cast<size_t>(i) % kSessions;
    passes.push_back(step(scene.x, scene.models[kStays][session], servers.device(kStays, session)));
  }
  scene.pass_s = median(passes);
  return scene;
}

void add(SwapBench& bench, const Samples& ratio, const Samples& avoided) {
  const Promise good{.id = "G4.6 goodput over on demand, first come",
                     .unit = "ratio",
                     .better = Better::kHigher,
                     .must = 1.5,
                     .aim = 3};
  const Promise swaps{.id = "G4.7 bytes moved in that were avoided",
                      .unit = "share",
                      .better = Better::kHigher,
                      .must = 0.5,
                      .aim = 0.8};
  bench.report.add({judge(good, ratio)});
  bench.report.add({judge(swaps, avoided)});
}

}  // namespace

void measure_zoo(SwapBench& bench) {
  const at::NoGradGuard no_grad;
  LayerLink link(0);
  const int64_t batch = batch_where_compute_is_transfer(random_layers(4, 51), link);
  const std::string budget = mebibytes((kHeldModels * kModelLayers + 0.25) * kLayerBytes);
  const Servers servers({{},
                         {"--device-memory", budget, "--admin", admin_of(kOurs).text()},
                         {"--device-memory", budget, "--memory-policy", "lru", "--policy", "fcfs",
                          "--admin", admin_of(kOnDemand).text()}},
                        kSessions);
  const Scene scene = make_scene(servers, batch);
  const size_t count = bench.quick ? 100 : 400;
  Samples ratio{.arm = "zoo"};
  Samples avoided{.arm = "zoo"};
  double stays = 0;
  Rounds rounds(bench.rounds);
  rounds.run([&](int round) {
    std::vector<Trace> traces;
    for (size_t i = 0; i < kLoads.size(); ++i) {
      const auto seed = static_cast<uint64_t>(round) * kLoads.size() + i;
      traces.push_back(draw(seed, count, kLoads[i] / scene.pass_s));
    }
    const double moved_ours = bytes_moved_in(kOurs);
    const double ours = goodput(scene, kOurs, traces);
    const double moved_on_demand = bytes_moved_in(kOnDemand);
    const double on_demand = goodput(scene, kOnDemand, traces);
    const double again = goodput(scene, kOnDemand, traces);
    ratio.value.push_back(ours / on_demand);
    ratio.null.push_back(again / on_demand);
    const double moved = bytes_moved_in(kOnDemand) - moved_on_demand;
    avoided.value.push_back(1 - (bytes_moved_in(kOurs) - moved_ours) / (moved / 2));
    ratio.n += kLoads.size() * count;
    if (round == 0) stays = goodput(scene, kStays, traces) * scene.pass_s;
  });
  avoided.n = ratio.n;
  bench.report.count(rounds);
  add(bench, ratio, avoided);
  bench.report.note("zoo: eight models of 32 MiB, room for two, Zipf 0.9, batch " +
                    std::to_string(batch) + "; a pass takes " +
                    std::to_string(scene.pass_s * 1e3).substr(0, 5) +
                    " ms where all fits, in time is eight of these; goodput where all fits: " +
                    std::to_string(stays).substr(0, 4) + " of that rate");
}

}  // namespace djinn::benchmarks
