// SPDX-License-Identifier: Apache-2.0
// A bystander: its model is small and in use all the time, while two large ones take turns.
//
// Both servers get the same requests; on one of them all fits, on the other the large models swap.
// So what the bystander waits for others' compute is in both arms, and what is left is the
// swapping. Threading: one thread asks as the bystander, one as the others.
#include <atomic>
#include <thread>

#include <ATen/ATen.h>

#include "benchmarks/harness/statistics.h"
#include "benchmarks/swap/bench.h"

namespace djinn::benchmarks {
namespace {

constexpr int kModelLayers = 4;  // 64 MiB
constexpr size_t kModels = 2;
constexpr size_t kBystander = kModels;  // its session
constexpr int64_t kBatch = 4;           // of the others
constexpr auto kGap = std::chrono::milliseconds(5);

struct Scene {
  const Servers& servers;
  std::vector<std::vector<Model>> models;  // by server, then session
  at::Tensor x;
};

// P99 of the bystander's requests, in seconds, while the others pass in turn.
double p99(const Scene& scene, size_t server, int requests) {
  std::atomic<bool> over = false;
  std::thread others([&] {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; !over; i = (i + 1) % kModels) {
      (void)step(scene.x, scene.models[server][i], scene.servers.device(server, i));
    }
  });
  std::vector<double> seconds;
  const at::Tensor x = scene.x.narrow(0, 0, 1);
  auto due = Clock::now();
  for (int i = 0; i < requests; ++i) {
    due += kGap;
    std::this_thread::sleep_until(due);
    (void)step(x, scene.models[server][kBystander], scene.servers.device(server, kBystander));
    seconds.push_back(seconds_since(due));  // From when it was due: who comes late waits longer.
    due = std::max(due, Clock::now());
  }
  over = true;
  others.join();
  return percentile(seconds, 0.99);
}

}  // namespace

void measure_bystander(SwapBench& bench) {
  const at::NoGradGuard no_grad;
  const double budget = (1.25 * kModelLayers + 2) * kLayerBytes;
  const Servers servers(
      {{"--device-memory", mebibytes(1e9)}, {"--device-memory", mebibytes(budget)}}, kModels + 1);
  Scene scene{.servers = servers,
              .models = std::vector<std::vector<Model>>(2, std::vector<Model>(kModels + 1)),
              .x = at::randn({kBatch, kWidth})};
  for (size_t i = 0; i <= kModels; ++i) {
    const Model here = random_layers(i == kBystander ? 1 : kModelLayers, 31 + i);
    for (size_t server = 0; server < 2; ++server) {
      const at::Device device = servers.device(server, i);
      for (const at::Tensor& weight : here) scene.models[server][i].push_back(weight.to(device));
      check(scene.x, here, scene.models[server][i], device);
    }
  }
  const int requests = bench.quick ? 150 : 460;
  Samples samples{.arm = "bystander"};
  std::vector<double> without;
  Rounds rounds(bench.rounds);
  rounds.run([&](int) {
    const double fits = p99(scene, 0, requests);
    const double swaps = p99(scene, 1, requests);
    samples.value.push_back(swaps / fits);
    samples.null.push_back(p99(scene, 0, requests) / fits);
    samples.n += static_cast<uint64_t>(requests);
    without.push_back(fits * 1e3);
  });
  bench.report.count(rounds);
  const Promise promise{.id = "G4.8 bystander's P99 with swaps over without",
                        .unit = "ratio",
                        .must = 1.15,
                        .aim = 1.05};
  bench.report.add({judge(promise, samples)});
  bench.report.note("bystander: a request of one layer every 5 ms beside passes of two models of " +
                    std::to_string(kModelLayers) + " layers; P99 " +
                    std::to_string(median(without)).substr(0, 5) + " ms where all fits");
}

}  // namespace djinn::benchmarks
