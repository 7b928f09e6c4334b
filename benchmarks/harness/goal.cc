// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/harness/goal.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace djinn::benchmarks {
namespace {

// How much worse than promised; at most 0 if the promise is kept.
double excess(const Promise& promise, double value) {
  return promise.better == Better::kLower ? value - promise.must : promise.must - value;
}

// Two equal arms differ by more than half of what is asked of two different ones: nothing can be
// said.
bool null_is_off(const Goal& goal) {
  if (!goal.has_null) return false;
  const double allowed = std::max(0.1, std::abs(goal.promise.must - 1) / 2);
  return goal.null_interval.low > 1 + allowed || goal.null_interval.high < 1 - allowed;
}

// What is promised to be better than an equal arm was found between two equal ones, too.
bool null_reaches(const Goal& goal) {
  if (!goal.has_null) return false;
  const bool lower = goal.promise.better == Better::kLower;
  const bool is_gain = lower ? goal.promise.must < 1 : goal.promise.must > 1;
  if (!is_gain) return false;
  return lower ? goal.null_interval.low <= goal.value : goal.null_interval.high >= goal.value;
}

Verdict verdict_of(const Goal& goal) {
  if (null_is_off(goal)) return Verdict::kNoisy;
  if (excess(goal.promise, goal.value) <= 0 && null_reaches(goal)) return Verdict::kNoisy;
  if (excess(goal.promise, goal.value) <= 0) return Verdict::kPass;
  const double best =
      goal.promise.better == Better::kLower ? goal.interval.low : goal.interval.high;
  return excess(goal.promise, best) <= 0 ? Verdict::kNoisy : Verdict::kFail;
}

}  // namespace

std::string_view name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "PASS";
    case Verdict::kFail:
      return "FAIL";
    case Verdict::kNoisy:
      return "NOISY";
  }
  return "?";
}

Goal judge(const Promise& promise, const Samples& samples) {
  Goal goal{.promise = promise,
            .arm = samples.arm,
            .value = median(samples.value),
            .least = *std::ranges::min_element(samples.value),
            .most = *std::ranges::max_element(samples.value),
            .interval = median_interval(samples.value),
            .rounds = samples.value,
            .null_interval = {},
            .has_null = !samples.null.empty(),
            .n = samples.n};
  if (goal.has_null) {
    goal.null = median(samples.null);
    goal.null_interval = median_interval(samples.null);
  }
  goal.verdict = verdict_of(goal);
  return goal;
}

const Goal& worst(const std::vector<Goal>& arms) {
  if (arms.empty()) throw std::invalid_argument("worst: no arms");
  return *std::ranges::max_element(
      arms, {}, [](const Goal& goal) { return excess(goal.promise, goal.value); });
}

}  // namespace djinn::benchmarks
