// SPDX-License-Identifier: Apache-2.0
// What replay costs: tiny operators in steady state, per operator, beside the same calls made
// eagerly.
//
// A program to be run by hand, and a test that it runs at all: times are printed, not judged.
#include <chrono>
#include <cstdio>

#include <gtest/gtest.h>

#include "server/torch/cpu_device.h"
#include "tests/server/torch/harness.h"

namespace djinn::server {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds(Clock::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

constexpr int kOps = 1000;
constexpr int kRounds = 2000;
constexpr int kRunsPerRound = 1;

// A decoder's mix: matrix product, residual add, scale, activation; each result dies soon.
at::Tensor step(const at::Tensor& input, const at::Tensor& weight, int ops) {
  at::Tensor x = input;
  for (int i = 0; i < ops; i += 4) {
    at::Tensor y = at::mm(x, weight);
    y = at::add(y, x);
    y = at::mul(y, 0.5);
    x = at::tanh(y);
  }
  return x;
}

void record(Mirror& mirror, const at::Tensor& input, const at::Tensor& weight) {
  at::Tensor x = input;
  for (int i = 0; i < kOps; i += 4) {
    at::Tensor y = mirror.op("aten::mm", x, weight);
    at::Tensor z = mirror.op("aten::add.Tensor", y, x, 1);
    mirror.forget(y);
    if (i != 0) mirror.forget(x);
    at::Tensor half = at::scalar_tensor(0.5, at::kDouble);
    half.unsafeGetTensorImpl()->set_wrapped_number(true);
    at::Tensor w = mirror.op("aten::mul.Tensor", z, half);
    mirror.forget(z);
    x = mirror.op("aten::tanh", w);
    mirror.forget(w);
  }
  mirror.expect_same(x);
  mirror.forget(x);
}

TEST(ReplayBench, TinyOperators) {
  const auto device = make_cpu_device({.threads = 1});
  Mirror mirror(*device);
  const at::Tensor input = at::randn({1, 16});
  const at::Tensor weight = at::randn({16, 16});
  mirror.see(input);
  mirror.see(weight);
  mirror.run();
  record(mirror, input, weight);
  const Recorded recorded = mirror.finish();
  const at::NoGradGuard no_grad;
  double eager = 1e9;
  double replayed = 1e9;
  Work work = recorded.work();
  for (int round = 0; round < kRounds; ++round) {
    auto start = Clock::now();
    for (int i = 0; i < kRunsPerRound; ++i) step(input, weight, kOps);
    eager = std::min(eager, microseconds(Clock::now() - start) / (kOps * kRunsPerRound));
    start = Clock::now();
    for (int i = 0; i < kRunsPerRound; ++i) {
      Answers answers;
      // Ids are never reused: each run makes its storages anew.
      auto numbers = std::make_shared<graph::Numbers>(*work.numbers);
      for (const graph::SlotInfo& slot : recorded.plan->slots) {
        if (slot.fresh) (*numbers)[slot.id] += kOps;
      }
      work.numbers = numbers;
      mirror.replay().run_whole(work, answers);
    }
    replayed = std::min(replayed, microseconds(Clock::now() - start) / (kOps * kRunsPerRound));
  }
  std::printf("eager %.2f us/op, replay %.2f us/op, ratio %.2f\n", eager, replayed,
              replayed / eager);
}

}  // namespace
}  // namespace djinn::server
