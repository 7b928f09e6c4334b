// SPDX-License-Identifier: Apache-2.0
#include "trace/tally.h"

#include <gtest/gtest.h>

namespace djinn::trace {
namespace {

TEST(Latencies, ArePercentilesWithinOnePercent) {
  Latencies latencies;
  for (uint64_t ms = 1; ms <= 1000; ++ms) latencies.add(ms * 1'000'000);
  EXPECT_EQ(latencies.count(), 1000U);
  EXPECT_NEAR(latencies.percentile(0.5), 500, 5);
  EXPECT_NEAR(latencies.percentile(0.95), 950, 10);
  EXPECT_NEAR(latencies.percentile(0.99), 990, 10);
  EXPECT_EQ(latencies.most(), 1000);
  EXPECT_LE(latencies.percentile(1), 1000);
}

TEST(Latencies, HoldWhatIsShorterOrLongerThanTheirSteps) {
  Latencies latencies;
  EXPECT_EQ(latencies.percentile(0.5), 0);
  latencies.add(0);
  EXPECT_EQ(latencies.percentile(0.5), 0);
  latencies.add(uint64_t{3600} * 1'000'000'000);
  EXPECT_EQ(latencies.most(), 3600e3);
  EXPECT_GT(latencies.percentile(1), 60e3);
}

TEST(Latencies, OfSeveralTalliesAreThoseOfAllTogether) {
  Latencies some;
  Latencies others;
  for (uint64_t ms = 1; ms <= 90; ++ms) some.add(ms * 1'000'000);
  for (uint64_t ms = 91; ms <= 100; ++ms) others.add(ms * 1'000'000);
  some.add(others);
  EXPECT_EQ(some.count(), 100U);
  EXPECT_NEAR(some.percentile(0.95), 95, 1);
  EXPECT_EQ(some.most(), 100);
}

}  // namespace
}  // namespace djinn::trace
