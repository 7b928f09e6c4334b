// SPDX-License-Identifier: Apache-2.0
#include "scheduler/run_queue.h"

#include <gmock/gmock.h>

#include <vector>

#include <gtest/gtest.h>

namespace djinn::sched {
namespace {

constexpr SessionId kA{1};
constexpr SessionId kB{2};
constexpr SessionId kC{3};

std::vector<uint64_t> drain(RunQueue& queue) {
  std::vector<uint64_t> order;
  while (const auto session = queue.take()) {
    order.push_back(session->value);
    queue.done(*session);
  }
  return order;
}

TEST(RunQueue, LetsSessionsTakeTurns) {
  RunQueue queue;
  for (int i = 0; i < 3; ++i) queue.add(kA);
  queue.add(kB);
  for (int i = 0; i < 2; ++i) queue.add(kC);
  EXPECT_EQ(queue.waiting(), 6U);
  EXPECT_THAT(drain(queue), ::testing::ElementsAre(1, 2, 3, 1, 3, 1));
  EXPECT_FALSE(queue.ready());
}

TEST(RunQueue, GivesASessionNoSecondTurnWhileItsJobRuns) {
  RunQueue queue;
  queue.add(kA);
  queue.add(kA);
  EXPECT_EQ(queue.take(), kA);
  EXPECT_EQ(queue.take(), std::nullopt);
  queue.add(kA);  // Nor does the turn come with a job that arrives meanwhile.
  EXPECT_EQ(queue.take(), std::nullopt);
  queue.done(kA);
  EXPECT_EQ(queue.take(), kA);
  EXPECT_EQ(queue.waiting(kA), 1U);
}

TEST(RunQueue, SkipsWhoIsPaused) {
  RunQueue queue;
  queue.add(kA);
  queue.add(kB);
  queue.pause(kA, true);
  queue.add(kA);
  EXPECT_THAT(drain(queue), ::testing::ElementsAre(2));
  EXPECT_EQ(queue.waiting(kA), 2U);
  queue.pause(kA, false);
  EXPECT_THAT(drain(queue), ::testing::ElementsAre(1, 1));
}

TEST(RunQueue, PausesASessionWhoseJobRuns) {
  RunQueue queue;
  queue.add(kA);
  queue.add(kA);
  ASSERT_TRUE(queue.take());
  queue.pause(kA, true);
  queue.done(kA);
  EXPECT_FALSE(queue.ready());
  queue.pause(kA, false);
  EXPECT_TRUE(queue.ready());
}

TEST(RunQueue, ForgetsASessionAlsoWhileItsJobRuns) {
  RunQueue queue;
  queue.add(kA);
  queue.add(kA);
  queue.add(kB);
  ASSERT_EQ(queue.take(), kA);
  queue.remove(kA);
  queue.done(kA);
  EXPECT_THAT(drain(queue), ::testing::ElementsAre(2));
  EXPECT_EQ(queue.waiting(), 0U);
}

TEST(RunQueue, SharesTurnsEquallyWhateverSomeoneQueues) {
  RunQueue queue;
  for (int i = 0; i < 1000; ++i) queue.add(kA);
  std::vector<int> turns(4);
  for (int round = 0; round < 300; ++round) {
    if (queue.waiting(kB) == 0) queue.add(kB);
    const auto session = queue.take();
    ASSERT_TRUE(session);
    ++turns[session->value];
    queue.done(*session);
  }
  EXPECT_EQ(turns[1], 150);
  EXPECT_EQ(turns[2], 150);
}

}  // namespace
}  // namespace djinn::sched
