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

// Two sessions, of which the second comes back so long after each step.
class Pair {
 public:
  // Whether the first, which is always quick, waits for the second.
  bool waits_before(uint64_t gap) {
    step(gathering_, now_);
    gathering_.came({1}, now_ + kMs);
    const bool waits = gathering_.wait_until(kCompany, now_ + kMs) != 0;
    if (waits && gap > kStep / 2) (void)gathering_.wait_until(kCompany, now_ + kMs + kStep / 2);
    gathering_.came({2}, now_ + gap);
    now_ += gap + kStep;
    return waits;
  }
  int steps_until_it_waits() {
    int steps = 0;
    while (!waits_before(kMs)) ++steps;
    return steps;
  }

 private:
  Gathering gathering_;
  uint64_t now_ = 100 * kMs;
};

TEST(Gathering, WaitsAgainForWhoIsSlowNoMore) {
  Pair pair;
  EXPECT_TRUE(pair.waits_before(3 * kStep));
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(pair.waits_before(3 * kStep)) << "it is always late";
  const int steps = pair.steps_until_it_waits();
  EXPECT_GE(steps, 2);
  EXPECT_LE(steps, 12);
}

TEST(Gathering, WaitsSoonAgainForWhoHasPaused) {
  Pair pair;
  for (int turn = 0; turn < 3; ++turn) {
    for (int i = 0; i < 40; ++i) EXPECT_TRUE(pair.waits_before(kMs));
    EXPECT_TRUE(pair.waits_before(5000 * kMs));
    EXPECT_EQ(pair.steps_until_it_waits(), 2);
  }
}

TEST(Gathering, WaitsOnceForWhoAlwaysPauses) {
  Pair pair;
  EXPECT_TRUE(pair.waits_before(1000 * kMs));
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(pair.waits_before(1000 * kMs));
}

TEST(Gathering, WaitsLessAndLessForWhoOftenPauses) {
  Pair pair;
  int in_vain = 0;
  for (int i = 0; i < 100; ++i) {
    for (int quick = 0; quick < 2; ++quick) (void)pair.waits_before(kMs);
    in_vain += pair.waits_before(1000 * kMs) ? 1 : 0;
  }
  EXPECT_LE(in_vain, 12);
}

}  // namespace
}  // namespace djinn::server
