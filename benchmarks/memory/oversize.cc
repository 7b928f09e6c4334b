// SPDX-License-Identifier: Apache-2.0
// Models larger than the device: what a step takes, over what compute and transfer must take.
//
// The limit of a layer is the longer of its compute (a share of the step on a device that holds
// the whole model) and its transfer (its bytes at the rate of memcpy, which is the link here), both
// measured in the same round. The batch is chosen so that the two are about equal: there
// overlapping is worth most and hardest.
#include <cmath>
#include <cstring>
#include <stdexcept>

#include <ATen/ATen.h>

#include "benchmarks/memory/bench.h"
#include "client/djinn.h"

namespace djinn::benchmarks {
namespace {

constexpr int64_t kWidth = 2048;
constexpr double kLayerBytes = kWidth * kWidth * sizeof(float);
constexpr int kLayers = 26;

using Model = std::vector<at::Tensor>;

at::Tensor forward(at::Tensor x, const Model& model) {
  for (const at::Tensor& weight : model) x = at::relu(at::linear(x, weight)).add_(x);
  return x;
}

// A step as an app sees it: input there, result back.
double step(const at::Tensor& x, const Model& model, const at::Device& device) {
  return seconds_of([&] { (void)forward(x.to(device), model).sum().item<float>(); });
}

void check(const at::Tensor& x, const Model& here, const Model& there, const at::Device& device) {
  const at::Tensor expected = forward(x, here);
  if (!at::equal(forward(x.to(device), there).cpu(), expected)) {
    throw std::runtime_error("the results of an oversize model differ from the CPU's");
  }
}

// Seconds of a layer's bytes through memcpy, both sides touched before.
class Link {
 public:
  Link() : from_(static_cast<size_t>(kLayerBytes) * 4, 1), to_(from_.size(), 2) {}
  double layer_seconds() {
    return seconds_of([&] { std::memcpy(to_.data(), from_.data(), from_.size()); }) / 4;
  }

 private:
  std::vector<char> from_;
  std::vector<char> to_;
};

int64_t batch_where_compute_is_transfer(const Model& here, Link& link) {
  std::vector<double> transfer;
  transfer.reserve(9);
  for (int i = 0; i < 9; ++i) transfer.push_back(link.layer_seconds());
  for (int64_t batch = 1; batch < 256; batch *= 2) {
    const at::Tensor x = at::randn({batch, kWidth});
    std::vector<double> compute;
    compute.reserve(3);
    for (int i = 0; i < 3; ++i) {
      compute.push_back(seconds_of([&] {
                          (void)forward(x, {here.begin(), here.begin() + 4});
                        }) /
                        4);
    }
    if (median(compute) >= median(transfer)) return batch;
  }
  return 256;
}

struct Arm {
  const char* name;
  double over;  // model / device
  const char* policy;
};
constexpr Arm kArms[] = {{"resident", 0, "plan"},
                         {"3x", 3, "plan"},
                         {"6x", 6, "plan"},
                         {"12x", 12, "plan"},
                         {"6x, on demand", 6, "lru"}};
constexpr size_t kArmCount = std::size(kArms);

std::vector<std::vector<std::string>> server_arguments() {
  std::vector<std::vector<std::string>> all;
  for (const Arm& arm : kArms) {
    std::vector<std::string>& arguments = all.emplace_back();
    if (arm.over == 0) continue;
    arguments = {"--device-memory", mebibytes(kLayers * kLayerBytes / arm.over + (1 << 20)),
                 "--memory-policy", arm.policy};
  }
  return all;
}

struct Round {
  double seconds[kArmCount];
  double null = 0;   // the resident arm once more
  double layer = 0;  // transfer of one
};

// Steps of all arms in turn, after two that nobody times.
std::vector<Round> run_rounds(OomBench& bench, const at::Tensor& x,
                              const std::vector<Model>& models, Link& link) {
  std::vector<Round> measured;
  for (size_t arm = 0; arm < kArmCount; ++arm) {
    for (int i = 0; i < 2; ++i) step(x, models[arm], Servers::device(arm));
  }
  Rounds rounds(bench.rounds);
  rounds.run([&](int) {
    Round round;
    round.layer = link.layer_seconds();
    for (size_t arm = 0; arm < kArmCount; ++arm) {
      // The second of two: the first finds what the others' steps left in the caches.
      step(x, models[arm], Servers::device(arm));
      round.seconds[arm] = step(x, models[arm], Servers::device(arm));
    }
    step(x, models[0], Servers::device(0));
    round.null = step(x, models[0], Servers::device(0));
    measured.push_back(round);
  });
  bench.report.count(rounds);
  return measured;
}

double bound(const Round& round) {
  return kLayers * std::max(round.seconds[0] / kLayers, round.layer);
}

Samples against_bound(const std::vector<Round>& rounds, size_t arm) {
  Samples samples{.arm = kArms[arm].name};
  for (const Round& round : rounds) {
    samples.value.push_back(round.seconds[arm] / bound(round));
    samples.null.push_back(round.null / round.seconds[0]);
  }
  samples.n = rounds.size();
  return samples;
}

Samples against_arm(const std::vector<Round>& rounds, const char* name, size_t arm, size_t other) {
  Samples samples{.arm = name};
  for (const Round& round : rounds) {
    samples.value.push_back(round.seconds[arm] / round.seconds[other]);
    samples.null.push_back(round.null / round.seconds[0]);
  }
  samples.n = rounds.size();
  return samples;
}

}  // namespace

void measure_oversize(OomBench& bench) {
  const at::NoGradGuard no_grad;
  Model here;
  for (int i = 0; i < kLayers; ++i) here.push_back(at::randn({kWidth, kWidth}) / std::sqrt(kWidth));
  Link link;
  const int64_t batch = batch_where_compute_is_transfer(here, link);
  const Servers servers(server_arguments());
  std::vector<Model> there(kArmCount);
  const at::Tensor x = at::randn({batch, kWidth});
  for (size_t arm = 0; arm < kArmCount; ++arm) {
    for (const at::Tensor& weight : here) there[arm].push_back(weight.to(Servers::device(arm)));
    check(x, here, there[arm], Servers::device(arm));
  }
  const std::vector<Round> rounds = run_rounds(bench, x, there, link);
  const Promise bounded{.id = "G3.4 step over bound", .unit = "ratio", .must = 1.2, .aim = 1.05};
  bench.report.add({judge(bounded, against_bound(rounds, 1)),
                    judge(bounded, against_bound(rounds, 2)),
                    judge(bounded, against_bound(rounds, 3))});
  const Promise resident{
      .id = "G3.4b step over resident", .unit = "ratio", .must = 1.1, .aim = 1.03};
  bench.report.add({judge(resident, against_arm(rounds, "12x", 3, 0))});
  const Promise overlap{.id = "G3.5 on demand over overlapped",
                        .unit = "ratio",
                        .better = Better::kHigher,
                        .must = 1.4,
                        .aim = 1.8};
  bench.report.add({judge(overlap, against_arm(rounds, "6x", 4, 2))});
  std::vector<double> compute;
  std::vector<double> transfer;
  for (const Round& round : rounds) {
    compute.push_back(round.seconds[0] / kLayers * 1e3);
    transfer.push_back(round.layer * 1e3);
  }
  bench.report.note("oversize: " + std::to_string(kLayers) + " layers of 16 MiB, batch " +
                    std::to_string(batch) + "; a layer computes " +
                    std::to_string(median(compute)).substr(0, 5) + " ms and travels " +
                    std::to_string(median(transfer)).substr(0, 5) +
                    " ms (device: cpu stand-in, link: native memcpy)");
}

}  // namespace djinn::benchmarks
