// SPDX-License-Identifier: Apache-2.0
// Goals: what is said of a figure, beside how far two equal arms were apart.
#include "benchmarks/harness/goal.h"

#include <gtest/gtest.h>

namespace djinn::benchmarks {
namespace {

const Promise kGain{
    .id = "times faster", .unit = "ratio", .better = Better::kHigher, .must = 1.5, .aim = 3};
const Promise kCost{
    .id = "cost", .unit = "ratio", .better = Better::kLower, .must = 1.05, .aim = 1};
const std::vector<double> kQuiet{0.99, 1.0, 1.01, 1.0, 1.0};

Verdict of(const Promise& promise, std::vector<double> value, std::vector<double> null) {
  return judge(promise, {.arm = "arm", .value = std::move(value), .null = std::move(null), .n = 5})
      .verdict;
}

TEST(Goals, PassIfTheMedianKeepsThePromise) {
  EXPECT_EQ(of(kGain, {1.9, 2.0, 2.0, 2.1, 1.4}, kQuiet), Verdict::kPass);
  EXPECT_EQ(of(kCost, {1.0, 1.02, 1.01, 1.02, 1.0}, kQuiet), Verdict::kPass);
}

TEST(Goals, FailIfNoneOfTheIntervalKeepsThePromise) {
  EXPECT_EQ(of(kGain, {1.2, 1.2, 1.25, 1.1, 1.2}, kQuiet), Verdict::kFail);
  EXPECT_EQ(of(kCost, {1.2, 1.2, 1.25, 1.1, 1.2}, kQuiet), Verdict::kFail);
}

TEST(Goals, AreNoisyIfTheIntervalHoldsBoth) {
  EXPECT_EQ(of(kGain, {1.2, 1.3, 1.45, 1.7, 1.8}, kQuiet), Verdict::kNoisy);
}

TEST(Goals, AreNoisyIfTwoEqualArmsAreNot) {
  EXPECT_EQ(of(kCost, {1.0, 1.0, 1.0, 1.0, 1.0}, {1.4, 1.5, 1.4, 1.5, 1.4}), Verdict::kNoisy);
}

TEST(Goals, DoNotTakeForAGainWhatTwoEqualArmsShowToo) {
  EXPECT_EQ(of(kGain, {1.7, 1.7, 1.7, 1.6, 1.8}, {0.7, 1.6, 5.9, 0.8, 1.7}), Verdict::kNoisy);
}

TEST(Goals, OfACountHaveNoNullArm) {
  EXPECT_EQ(of(kCost, {0, 0, 0}, {}), Verdict::kPass);
  EXPECT_EQ(of(kCost, {8, 8, 8}, {}), Verdict::kFail);
}

}  // namespace
}  // namespace djinn::benchmarks
