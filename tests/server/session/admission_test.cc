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
size_t flood(Admission& admission, Admission::Queue& queue, uint64_t each_ns) {
  size_t jobs = 0;
  while (!admission.refuse(queue)) {
    (void)admission.add(queue, each_ns);
    ++jobs;
  }
  return jobs;
}

TEST(Admission, IsBoundedTogetherAndByTenant) {
  Admission admission(100);
  Admission::Queue& alice = admission.queue("alice");
  Admission::Queue& bob = admission.queue("bob");
  bob.jobs_max = 7;
  EXPECT_EQ(flood(admission, bob, kMs), 7U);
  EXPECT_EQ(flood(admission, alice, kMs), 93U);
  EXPECT_EQ(admission.jobs(), 100U);
  EXPECT_EQ(admission.refusals().tenant_queue, 1U);
  EXPECT_EQ(admission.refusals().queue, 1U);
  EXPECT_EQ(&admission.queue("alice"), &alice);
}

TEST(Admission, WhoFloodsTheQueueRefusesOnlyItself) {
  Admission admission(100);
  Admission::Queue& flooding = admission.queue("flooding");
  ASSERT_EQ(flood(admission, flooding, kMs), 100U);
  EXPECT_EQ(flood(admission, admission.queue("meek"), kMs), 50U) << "an equal part of the queue";
  EXPECT_EQ(flood(admission, admission.queue("third"), kMs), 33U);
  EXPECT_TRUE(admission.refuse(flooding));
}

TEST(Admission, SaysWhenHalfOfWhatIsInTheWayShouldHaveRun) {
  Admission admission(100);
  Admission::Queue& alice = admission.queue("alice");
  ASSERT_EQ(flood(admission, alice, 20 * kMs), 100U);
  EXPECT_EQ(admission.refuse(alice), 1000U);
  Admission::Queue& bob = admission.queue("bob");
  bob.jobs_max = 10;
  ASSERT_EQ(flood(admission, bob, 20 * kMs), 10U);
  EXPECT_EQ(admission.refuse(bob), 200U) << "half of his 200 ms, and as much of hers beside it";
}

TEST(Admission, StaysWithinBoundsWhateverIsExpected) {
  Admission admission(2);
  Admission::Queue& alice = admission.queue("alice");
  const uint64_t first = admission.add(alice, 1);
  const uint64_t second = admission.add(alice, 1);
  EXPECT_EQ(admission.refuse(alice), 1U);
  admission.end(alice, first);
  admission.end(alice, second);
  (void)admission.add(alice, uint64_t{1} << 60);
  (void)admission.add(alice, uint64_t{1} << 60);
  EXPECT_EQ(admission.refuse(alice), kRetryAfterMsMax);
}

TEST(Admission, CountsAJobThatNobodyKnowsAsATypicalOne) {
  Admission admission(1000);
  Admission::Queue& alice = admission.queue("alice");
  std::vector<uint64_t> counted;
  for (int i = 0; i < 200; ++i) counted.push_back(admission.add(alice, 8 * kMs));
  EXPECT_NEAR(static_cast<double>(admission.add(alice, 0)), 8.0 * kMs, 0.1 * kMs);
  for (const uint64_t each : counted) admission.end(alice, each);
  EXPECT_EQ(alice.jobs, 1U);
  EXPECT_NEAR(static_cast<double>(alice.expected_ns), 8.0 * kMs, 0.1 * kMs);
}

}  // namespace
}  // namespace djinn::server
