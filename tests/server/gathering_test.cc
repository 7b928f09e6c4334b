// SPDX-License-Identifier: Apache-2.0
// Gathering: the device rests for who will be back soon, and for nobody else.
#include "server/gathering.h"

#include <gtest/gtest.h>

namespace djinn::server {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kStep = 20 * kMs;
constexpr uint64_t kCompany = 7;

// Both have made a step that ended at `now`.
void step(Gathering& gathering, uint64_t now) {
  gathering.began();
  for (const uint64_t session : {1U, 2U}) gathering.ended({session}, kCompany, kStep, now);
}

TEST(Gathering, WaitsHalfAStepForWhoRanInTheLastOne) {
  Gathering gathering;
  step(gathering, 100 * kMs);
  gathering.came({1}, 101 * kMs);
  EXPECT_EQ(gathering.wait_until(kCompany, 101 * kMs), 111 * kMs);
  EXPECT_EQ(gathering.wait_until(kCompany, 105 * kMs), 111 * kMs) << "not longer by asking again";
  gathering.came({2}, 106 * kMs);
  EXPECT_EQ(gathering.wait_until(kCompany, 106 * kMs), 0U) << "all are there";
}

TEST(Gathering, DoesNotWaitForAnotherCompany) {
  Gathering gathering;
  step(gathering, 100 * kMs);
  EXPECT_EQ(gathering.wait_until(kCompany + 1, 101 * kMs), 0U);
}

TEST(Gathering, DoesNotWaitForWhoHasGone) {
  Gathering gathering;
  step(gathering, 100 * kMs);
  gathering.came({1}, 101 * kMs);
  gathering.gone({2});
  EXPECT_EQ(gathering.wait_until(kCompany, 101 * kMs), 0U);
}

TEST(Gathering, WaitsOnceForWhoDoesNotComeBack) {
  Gathering gathering;
  uint64_t waited = 0;
  for (uint64_t now = 100 * kMs; now < 1000 * kMs; now += 50 * kMs) {
    gathering.began();
    gathering.ended({1}, kCompany, kStep, now);
    if (now == 100 * kMs) gathering.ended({2}, kCompany, kStep, now);
    gathering.came({1}, now + kMs);
    if (gathering.wait_until(kCompany, now + kMs) == 0) continue;
    ++waited;
    EXPECT_EQ(gathering.wait_until(kCompany, now + kMs + kStep / 2), 0U);
  }
  EXPECT_EQ(waited, 1U);
}

TEST(Gathering, WaitsAgainForWhoIsSlowNoMore) {
  Gathering gathering;
  uint64_t now = 100 * kMs;
  const auto waits_after = [&](uint64_t gap) {
    step(gathering, now);
    gathering.came({1}, now + kMs);
    const bool waits = gathering.wait_until(kCompany, now + kMs) != 0;
    if (waits && gap > kStep / 2) (void)gathering.wait_until(kCompany, now + kMs + kStep / 2);
    gathering.came({2}, now + gap);
    now += gap + kStep;
    return waits;
  };
  EXPECT_TRUE(waits_after(3 * kStep));
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(waits_after(3 * kStep)) << "it is always late";
  int until_trusted = 0;
  while (!waits_after(kMs)) ++until_trusted;
  EXPECT_GE(until_trusted, 2);
  EXPECT_LE(until_trusted, 12);
}

TEST(Gathering, WaitsSoonAgainForWhoHasPaused) {
  Gathering gathering;
  uint64_t now = 100 * kMs;
  const auto waits_after = [&](uint64_t gap) {
    step(gathering, now);
    gathering.came({1}, now + kMs);
    const bool waits = gathering.wait_until(kCompany, now + kMs) != 0;
    if (waits && gap > kStep / 2) (void)gathering.wait_until(kCompany, now + kMs + kStep / 2);
    gathering.came({2}, now + gap);
    now += gap + kStep;
    return waits;
  };
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(waits_after(kMs));
  EXPECT_TRUE(waits_after(5000 * kMs));
  int until_trusted = 0;
  while (!waits_after(kMs)) ++until_trusted;
  EXPECT_LE(until_trusted, 2);
}

}  // namespace
}  // namespace djinn::server
