// SPDX-License-Identifier: Apache-2.0
// Who may wait when many do.
#include "server/session/admission.h"

#include <vector>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

constexpr uint64_t kMs = 1'000'000;

// Adds jobs until one is refused; how many that were.
size_t flood(Admission& admission, Admission::Place& place, uint64_t each_ns) {
  size_t jobs = 0;
  while (!admission.refuse(place, 0)) {
    admission.add(place, {.expected_ns = each_ns}, 0);
    ++jobs;
  }
  return jobs;
}

TEST(Admission, IsBoundedTogetherAndByTenant) {
  Admission admission(100);
  Admission::Place alice{&admission.queue("alice")};
  Admission::Place bob{&admission.queue("bob")};
  bob.queue->jobs_max = 7;
  EXPECT_EQ(flood(admission, bob, kMs), 7U);
  EXPECT_EQ(flood(admission, alice, kMs), 93U);
  EXPECT_EQ(admission.jobs(), 100U);
  EXPECT_EQ(admission.refusals().tenant_queue, 1U);
  EXPECT_EQ(admission.refusals().queue, 1U);
  EXPECT_EQ(&admission.queue("alice"), alice.queue);
}

TEST(Admission, WhoFloodsTheQueueRefusesOnlyItself) {
  Admission admission(100);
  Admission::Place flooding{&admission.queue("flooding")};
  Admission::Place meek{&admission.queue("meek")};
  Admission::Place third{&admission.queue("third")};
  ASSERT_EQ(flood(admission, flooding, kMs), 100U);
  EXPECT_EQ(flood(admission, meek, kMs), 50U) << "an equal part of the queue";
  EXPECT_EQ(flood(admission, third, kMs), 33U);
  EXPECT_TRUE(admission.refuse(flooding, 0));
}

TEST(Admission, ASessionThatFloodsItsTenantsQueueRefusesOnlyItself) {
  for (const uint64_t own : {0U, 12U}) {
    Admission admission(own == 0 ? 12 : 1000);
    admission.queue("alice").jobs_max = own;
    std::vector<Admission::Place> places(14, {&admission.queue("alice")});
    EXPECT_EQ(flood(admission, places[0], kMs), 12U);
    EXPECT_EQ(flood(admission, places[1], kMs), 6U);
    EXPECT_EQ(flood(admission, places[2], kMs), 4U);
    for (size_t i = 3; i < 12; ++i) EXPECT_GE(flood(admission, places[i], kMs), 1U) << i;
    EXPECT_EQ(flood(admission, places[12], kMs), 0U) << "there are more sessions than places";
    while (!places[0].counted.empty()) admission.end(places[0]);
    EXPECT_EQ(flood(admission, places[12], kMs), 1U);
    EXPECT_LE(admission.jobs(), 12U * 4) << "12 and a 2nd, 3rd, ... 12th of it";
  }
}

TEST(Admission, SaysWhenHalfOfWhatIsInTheWayShouldHaveRun) {
  Admission admission(100);
  Admission::Place alice{&admission.queue("alice")};
  ASSERT_EQ(flood(admission, alice, 20 * kMs), 100U);
  EXPECT_EQ(admission.refuse(alice, 0)->retry_after_ms, 1000U);
  Admission::Place bob{&admission.queue("bob")};
  bob.queue->jobs_max = 10;
  ASSERT_EQ(flood(admission, bob, 20 * kMs), 10U);
  EXPECT_EQ(admission.refuse(bob, 0)->retry_after_ms, 200U)
      << "half of his 200 ms, and as much of hers beside it";
}

TEST(Admission, StaysWithinBoundsWhateverIsExpected) {
  Admission admission(2);
  Admission::Place alice{&admission.queue("alice")};
  admission.add(alice, {.expected_ns = 1}, 0);
  admission.add(alice, {.expected_ns = 1}, 0);
  EXPECT_EQ(admission.refuse(alice, 0)->retry_after_ms, 1U);
  admission.end(alice);
  admission.end(alice);
  admission.add(alice, {.expected_ns = uint64_t{1} << 60}, 0);
  admission.add(alice, {.expected_ns = uint64_t{1} << 60}, 0);
  EXPECT_EQ(admission.refuse(alice, 0)->retry_after_ms, kRetryAfterMsMax);
}

TEST(Admission, CountsAJobThatNobodyKnowsAsATypicalOne) {
  Admission admission(1000);
  Admission::Place alice{&admission.queue("alice")};
  for (int i = 0; i < 200; ++i) admission.add(alice, {.expected_ns = 8 * kMs}, 0);
  admission.add(alice, {.expected_ns = 0}, 0);
  for (int i = 0; i < 200; ++i) admission.end(alice);
  EXPECT_EQ(alice.queue->jobs, 1U);
  EXPECT_NEAR(static_cast<double>(alice.queue->expected_ns), 8.0 * kMs, 0.1 * kMs);
}

TEST(Admission, AJobWaitsForItsSessionsOwnAndForEqualPartsOfOthers) {
  Admission admission(1000);
  Admission::Place mine{&admission.queue("alice")};
  Admission::Place sister{&admission.queue("alice")};
  Admission::Place bob{&admission.queue("bob")};
  const Admission::Entrant job{.expected_ns = 10 * kMs};
  EXPECT_EQ(admission.wait_ns(mine, job), 0U);
  for (int i = 0; i < 100; ++i) admission.add(bob, {.expected_ns = kMs}, 0);
  EXPECT_EQ(admission.wait_ns(mine, job), 10 * kMs) << "while it runs, as much of his";
  for (int i = 0; i < 100; ++i) admission.add(sister, {.expected_ns = kMs}, 0);
  EXPECT_EQ(admission.wait_ns(mine, job), (10 + 20) * kMs)
      << "her other session's, his beside both";
  admission.add(mine, {.expected_ns = 5 * kMs}, 0);
  EXPECT_EQ(admission.wait_ns(mine, job), (5 + 15 + 30) * kMs);
  for (int i = 0; i < 95; ++i) admission.end(sister);
  for (int i = 0; i < 98; ++i) admission.end(bob);
  EXPECT_EQ(admission.wait_ns(mine, job), (5 + 5 + 2) * kMs) << "and not more than there is";
}

TEST(Admission, BestEffortJobsAreInTheWayOfBestEffortOnesAndOfTheirOwnSession) {
  Admission admission(1000);
  Admission::Place mine{&admission.queue("alice")};
  Admission::Place bob{&admission.queue("bob")};
  for (int i = 0; i < 100; ++i) admission.add(bob, {.expected_ns = kMs, .prompt = false}, 0);
  EXPECT_EQ(admission.wait_ns(mine, {.expected_ns = 7 * kMs}), 0U);
  EXPECT_EQ(admission.wait_ns(mine, {.expected_ns = 7 * kMs, .prompt = false}), 7 * kMs);
  mine.queue->best_effort = true;
  EXPECT_EQ(admission.wait_ns(mine, {.expected_ns = 7 * kMs}), 7 * kMs) << "whatever it asks for";
  mine.queue->best_effort = false;
  admission.add(mine, {.expected_ns = 3 * kMs, .prompt = false}, 0);
  EXPECT_EQ(admission.wait_ns(mine, {.expected_ns = 7 * kMs}), 3 * kMs);
}

TEST(Admission, ARefusedJobTakesNoPlaceButIsARequest) {
  Admission admission(2);
  Admission::Place alice{&admission.queue("alice")};
  alice.queue->rates.set({.requests = 20}, 0);
  for (int i = 0; i < 19; ++i) admission.add(alice, {.expected_ns = kMs, .refused = true}, 0);
  EXPECT_EQ(admission.jobs(), 0U);
  EXPECT_EQ(admission.refusals().deadline, 19U);
  EXPECT_EQ(admission.wait_ns(alice, {.expected_ns = kMs}), 0U);
  ASSERT_FALSE(admission.refuse(alice, 0));
  admission.add(alice, {.expected_ns = kMs}, 0);
  EXPECT_TRUE(admission.refuse(alice, 0)->rate);
  EXPECT_FALSE(admission.refuse(alice, 0, 1)->late) << "too many requests wait, also in vain";
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(admission.jobs(), 1U) << "the last ends last";
    admission.end(alice);
  }
  EXPECT_EQ(admission.jobs(), 0U);
  EXPECT_EQ(alice.queue->sessions, 0U);
  EXPECT_EQ(alice.queue->expected_ns, 0U);
  EXPECT_EQ(alice.expected_ns, 0U);
}

TEST(Admission, JobsOfPausedSessionsAreInNobodysWay) {
  Admission admission(1000);
  Admission::Place mine{&admission.queue("alice")};
  Admission::Place bob{&admission.queue("bob")};
  admission.add(bob, {.expected_ns = 50 * kMs}, 0);
  admission.pause(bob, true);
  admission.pause(bob, true);
  admission.add(bob, {.expected_ns = 50 * kMs}, 0);
  const Admission::Entrant job{.expected_ns = 200 * kMs};
  EXPECT_EQ(admission.wait_ns(mine, job), 0U);
  EXPECT_EQ(admission.wait_ns(bob, job), 100 * kMs) << "but in its own";
  admission.end(bob);
  EXPECT_EQ(admission.wait_ns(mine, job), 0U);
  admission.pause(bob, false);
  EXPECT_EQ(admission.wait_ns(mine, job), 50 * kMs);
  EXPECT_EQ(bob.queue->paused_ns, 0U);
  EXPECT_EQ(bob.queue->paused_prompt_ns, 0U);
}

TEST(Admission, WhoHasNoTimeToComeAgainIsLate) {
  Admission admission(1);
  Admission::Place alice{&admission.queue("alice")};
  admission.add(alice, {.expected_ns = 100 * kMs}, 0);
  EXPECT_FALSE(admission.refuse(alice, 0, 50 * kMs)->late);
  const auto late = admission.refuse(alice, 0, 49 * kMs);
  EXPECT_TRUE(late->late);
  EXPECT_FALSE(late->rate);
  EXPECT_EQ(late->retry_after_ms, 50U);
  EXPECT_EQ(admission.refusals().queue, 1U) << "who is late is counted when it is let in";
}

}  // namespace
}  // namespace djinn::server
