// SPDX-License-Identifier: Apache-2.0
// Numbers fuzz: plans of a dozen operators each run with numbers that no client would send.
// Whatever they say, every answer comes exactly once and the process lives.
#include <iostream>
#include <random>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "operators/allow_list.h"
#include "operators/census.h"
#include "server/torch/cpu_device.h"
#include "tests/server/torch/harness.h"
#include "tests/server/torch/operator_inputs.h"

namespace djinn::server {
namespace {

constexpr int kPlans = 100;
constexpr int kOpsPerPlan = 12;
constexpr int kRunsPerPlan = 100;

int64_t nasty(std::mt19937_64& random, int64_t was) {
  static constexpr int64_t kNasty[] = {
      0,  1,       -1,        2,         3,         7,         16,        63,        64,
      65, 1 << 20, 1LL << 31, 1LL << 33, 1LL << 46, 1LL << 62, INT64_MAX, INT64_MIN, -64};
  if (random() % 3 == 0) {
    return static_cast<int64_t>(static_cast<uint64_t>(was) + random() % 5 - 2);
  }
  return kNasty[random() % std::size(kNasty)];
}

// A plan of operators that all ran, from guessed inputs.
Recorded plan(Mirror& mirror, uint64_t seed) {
  const auto names = operators::allowed_operators();
  std::mt19937_64 random(seed);
  OperatorInputs inputs(seed, [](const at::Tensor& content, bool) { return content.clone(); });
  int ops = 0;
  while (ops < kOpsPerPlan) {
    const std::string name(names[random() % names.size()]);
    const auto op = operators::find_operator(name);
    auto info = describe_operator(*op);
    if (name.find("random") != std::string::npos || name.find("_out") != std::string::npos)
      continue;
    try {
      Stack args = inputs.guess(**info);
      Stack trial = args;
      const at::NoGradGuard no_grad;
      const OperatorInfo& checked = **info;
      if (checked.check != nullptr) checked.check(checked, trial);
      op->callBoxed(trial);  // Only what runs is recorded.
      mirror.call(name, args);
      ++ops;
    } catch (const std::exception&) {
    }
  }
  return mirror.finish();
}

// For people, when it went wrong.
std::string operators_of(uint64_t seed) {
  const auto device = make_cpu_device({.threads = 1});
  Mirror mirror(*device);
  const Recorded recorded = plan(mirror, seed);
  std::string out;
  for (const std::string& name : recorded.plan->ops) out += " " + name;
  return out;
}

int fuzz(uint64_t seed) {
  at::set_num_threads(1);
  const auto device = make_cpu_device({.memory_budget_bytes = uint64_t{256} << 20, .threads = 1});
  Mirror mirror(*device);
  const Recorded recorded = plan(mirror, seed);
  if (!device->admit(*recorded.plan)) return 0;
  std::mt19937_64 random(seed);
  const auto replay = device->open(SessionId{1}, "test");
  int ran = 0;
  for (int i = 0; i < kRunsPerPlan; ++i) {
    Work work = recorded.work();
    auto numbers = std::make_shared<graph::Numbers>(recorded.numbers);
    // Fresh ids, so that not everything fails for that.
    for (const graph::SlotInfo& slot : recorded.plan->slots)
      (*numbers)[slot.id] += int64_t{i} * 10'000;
    for (uint64_t n = random() % 6 + 1; n > 0; --n) {
      int64_t& number = (*numbers)[random() % numbers->size()];
      number = nasty(random, number);
    }
    work.numbers = numbers;
    Answers answers;
    replay->run_whole(work, answers);
    ran += answers.size() == recorded.plan->answers ? 1 : 0;
  }
  return ran;
}

TEST(NumbersFuzz, EndsNoProcess) {
  const char* const given = getenv("DJINN_SEED");  // NOLINT(concurrency-mt-unsafe): one thread
  const uint64_t seed = given == nullptr ? 1 : std::strtoull(given, nullptr, 10);
  std::cout << "DJINN_SEED=" << seed << "\n";
  // This plan, in this process: for a debugger.
  const char* const only = getenv("DJINN_ONLY");  // NOLINT(concurrency-mt-unsafe): one thread
  if (only != nullptr) {
    const uint64_t plan_seed = seed * 1'000'000 + std::strtoull(only, nullptr, 10);
    std::cout << operators_of(plan_seed) << std::endl;
    fuzz(plan_seed);
    return;
  }
  const auto results = in_children(
      kPlans, 120, [&](int i) { return fuzz(seed * 1'000'000 + static_cast<uint64_t>(i)); });
  int ran = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    EXPECT_GE(results[i], 0) << "plan " << i << " was ended by signal " << -results[i] << ":"
                             << operators_of(seed * 1'000'000 + i);
    ran += std::max(results[i], 0);
  }
  std::cout << ran << " jobs with broken numbers\n";
  EXPECT_GT(ran, kPlans * kRunsPerPlan * 8 / 10);
}

}  // namespace
}  // namespace djinn::server
