// SPDX-License-Identifier: Apache-2.0
// Switching models: two that do not fit together take turns, and each finds the device full of the
// other.
//
// The limit of a first pass is what overlapping leaves: the longer of its compute (of the same pass
// where both models stay, which take turns there too) and its transfer (its bytes over the link),
// and one layer's transfer, since nothing can compute before that. Both are of the same round.
#include <stdexcept>

#include <ATen/ATen.h>

#include "benchmarks/harness/statistics.h"
#include "benchmarks/swap/bench.h"

namespace djinn::benchmarks {
namespace {

constexpr int kModelLayers = 8;  // 128 MiB
constexpr size_t kModels = 2;
constexpr double kHeldModels = 1.25;

// A pass of each model in turn; the mean of the two, in seconds.
double alternate(const at::Tensor& x, const Servers& servers, size_t server,
                 const std::vector<Model>& models) {
  double seconds = 0;
  for (size_t i = 0; i < kModels; ++i) seconds += step(x, models[i], servers.device(server, i));
  return seconds / kModels;
}

}  // namespace

void measure_switch(SwapBench& bench) {
  const at::NoGradGuard no_grad;
  LayerLink link(0);
  std::vector<Model> here;
  for (size_t i = 0; i < kModels; ++i) here.push_back(random_layers(kModelLayers, 11 + i));
  const int64_t batch = batch_where_compute_is_transfer(here[0], link);
  const at::Tensor x = at::randn({batch, kWidth});
  const double budget = kHeldModels * kModelLayers * kLayerBytes;
  const Servers servers({{}, {"--device-memory", mebibytes(budget)}}, kModels);
  std::vector<std::vector<Model>> there(2, std::vector<Model>(kModels));
  for (size_t server = 0; server < 2; ++server) {
    for (size_t i = 0; i < kModels; ++i) {
      const at::Device device = servers.device(server, i);
      for (const at::Tensor& weight : here[i]) there[server][i].push_back(weight.to(device));
      check(x, here[i], there[server][i], device);
    }
  }
  Samples over{.arm = "switch"};
  std::vector<double> compute;
  std::vector<double> transfer;
  Rounds rounds(3 * bench.rounds);  // They are short.
  rounds.run([&](int) {
    (void)alternate(x, servers, 0, there[0]);
    const double stays = alternate(x, servers, 0, there[0]);
    (void)alternate(x, servers, 1, there[1]);
    const double switched = alternate(x, servers, 1, there[1]);
    const double stays_again = alternate(x, servers, 0, there[0]);
    const double layer = link.layer_seconds();
    over.value.push_back(switched / (std::max(stays, kModelLayers * layer) + layer));
    over.null.push_back(stays_again / stays);
    compute.push_back(stays / kModelLayers * 1e3);
    transfer.push_back(layer * 1e3);
  });
  bench.report.count(rounds);
  over.n = over.value.size() * kModels;
  const Promise promise{.id = "G4.2 switch over bound", .unit = "ratio", .must = 1.2, .aim = 1.08};
  bench.report.add({judge(promise, over)});
  bench.report.note("switch: two models of " + std::to_string(kModelLayers) +
                    " layers of 16 MiB, room for 1.25, batch " + std::to_string(batch) +
                    "; a layer computes " + std::to_string(median(compute)).substr(0, 5) +
                    " ms and travels " + std::to_string(median(transfer)).substr(0, 5) + " ms");
}

}  // namespace djinn::benchmarks
