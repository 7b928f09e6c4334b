// SPDX-License-Identifier: Apache-2.0
// Token buckets and a tenant's rate limits, on a simulated clock.
#include "server/session/rate_limits.h"

#include <iostream>
#include <random>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "server/session/admission.h"

namespace djinn::server {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMs;
constexpr uint64_t kBegin = 77 * kSecond;

// A bucket counts in floating point: to a few nanoseconds.
void expect_wait(uint64_t wait_ns, uint64_t expected_ns) {
  EXPECT_NEAR(static_cast<double>(wait_ns), static_cast<double>(expected_ns), 20);
}

TEST(TokenBucket, WithoutARateThereIsNoLimit) {
  TokenBucket bucket;
  bucket.take(1e18, kBegin);
  EXPECT_EQ(bucket.wait_ns(1e18, kBegin), 0U);
  EXPECT_FALSE(bucket.limits());
}

TEST(TokenBucket, GivesASecondsWorthAtOnceAndTheRateBehindIt) {
  TokenBucket bucket;
  bucket.set_rate(10, kBegin);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(bucket.wait_ns(1, kBegin), 0U) << i;
    bucket.take(1, kBegin);
  }
  expect_wait(bucket.wait_ns(1, kBegin), 100 * kMs);
  expect_wait(bucket.wait_ns(1, kBegin + 99 * kMs), kMs);
  EXPECT_EQ(bucket.wait_ns(1, kBegin + 100 * kMs), 0U);
  EXPECT_EQ(bucket.level(kBegin + 3600 * kSecond), 10) << "who is away saves up no more";
}

TEST(TokenBucket, ADebtIsPaidBeforeAnythingIsThere) {
  TokenBucket bucket;
  bucket.set_rate(1000, kBegin);
  bucket.take(6000, kBegin);
  EXPECT_EQ(bucket.level(kBegin), -5000);
  expect_wait(bucket.wait_ns(1, kBegin), 5001 * kMs);
  EXPECT_EQ(bucket.wait_ns(1, kBegin + 5001 * kMs), 0U);
  EXPECT_GT(bucket.wait_ns(1, kBegin + 5 * kSecond), 0U);
}

TEST(TokenBucket, ALowRateLetsOneInNowAndThen) {
  TokenBucket bucket;
  bucket.set_rate(0.1, kBegin);
  EXPECT_EQ(bucket.wait_ns(1, kBegin), 0U);
  bucket.take(1, kBegin);
  expect_wait(bucket.wait_ns(1, kBegin), 10 * kSecond);
}

TEST(TokenBucket, AChangeKeepsTheDebtAndNoMoreThanASecondsWorth) {
  TokenBucket bucket;
  bucket.set_rate(100, kBegin);
  bucket.set_rate(10, kBegin);
  EXPECT_EQ(bucket.level(kBegin), 10);
  bucket.take(30, kBegin);
  bucket.set_rate(40, kBegin + kSecond);
  EXPECT_EQ(bucket.level(kBegin + kSecond), -10);
  expect_wait(bucket.wait_ns(30, kBegin + kSecond), kSecond);
  bucket.set_rate(0, kBegin + kSecond);
  EXPECT_EQ(bucket.wait_ns(1e9, kBegin + kSecond), 0U);
  bucket.set_rate(5, kBegin + 2 * kSecond);
  EXPECT_EQ(bucket.level(kBegin + 2 * kSecond), 5) << "it begins anew";
}

TEST(TokenBucket, TimeThatGoesBackGivesNothing) {
  TokenBucket bucket;
  bucket.set_rate(10, kBegin);
  bucket.take(10, kBegin + kSecond);
  EXPECT_EQ(bucket.level(kBegin), 0);
  bucket.take(1, kBegin);
  EXPECT_EQ(bucket.level(kBegin + kSecond), -1);
}

// Whatever is asked for and whenever: what is taken is at most a second's worth, the rate over the
// time, and the one that went into debt; and whoever waits as long as it was told gets in.
TEST(TokenBucket, KeepsItsRateForAnyLoadAndTellsTheTruth) {
  constexpr uint64_t kSeed = 42;
  std::cout << "seed " << kSeed << ", simulated clock" << std::endl;
  std::mt19937_64 random(kSeed);
  for (const double rate : {0.5, 3.0, 1e3, 1e8}) {
    TokenBucket bucket;
    bucket.set_rate(rate, kBegin);
    uint64_t now = kBegin;
    double taken = 0;
    double largest = 0;
    for (int i = 0; i < 10'000; ++i) {
      const double amount = rate * static_cast<double>(1 + random() % 3000) / 1000;
      const uint64_t wait = bucket.wait_ns(1, now);
      if (wait > 0 && random() % 2 == 0) {
        EXPECT_GT(bucket.wait_ns(1, now + wait - std::min<uint64_t>(wait / 2, 1000)), 0U);
        now += wait;
        ASSERT_EQ(bucket.wait_ns(1, now), 0U) << "at rate " << rate;
      } else if (wait > 0) {
        now += random() % kSecond;
        continue;
      }
      bucket.take(amount, now);
      taken += amount;
      largest = std::max(largest, amount);
    }
    const double allowed = rate * static_cast<double>(now - kBegin) / 1e9 + std::max(rate, 1.0);
    EXPECT_LE(taken, (allowed + largest) * (1 + 1e-9)) << rate;
    EXPECT_GE(taken, 0.5 * allowed) << rate << ": nor does it keep what may be had";
  }
}

TEST(RateLimits, DeviceTimeIsWhatWasMeasuredAndWhatIsExpectedYet) {
  RateLimits limits;
  limits.note({.used_ns = 900 * kSecond, .begun_ns = 0}, kBegin);
  limits.set({.device_ns = 100 * kMs}, kBegin);
  limits.note({.used_ns = 900 * kSecond, .begun_ns = 0}, kBegin);
  EXPECT_EQ(limits.wait(0, kBegin).ns, 0U) << "what was before the limit is free";
  EXPECT_EQ(limits.wait(60 * kMs, kBegin).ns, 0U) << "one is under way, and leaves something";
  const RateLimits::Wait full = limits.wait(150 * kMs, kBegin);
  EXPECT_EQ(full.of, RateLimits::Of::kDeviceTime);
  expect_wait(full.ns, 500 * kMs);  // 50 ms too many, at 100 ms a second
  limits.note({.used_ns = 900 * kSecond + 40 * kMs, .begun_ns = 40 * kMs}, kBegin);
  expect_wait(limits.wait(150 * kMs, kBegin).ns, 500 * kMs);  // Nothing is counted twice.
  limits.note({.used_ns = 900 * kSecond + 300 * kMs, .begun_ns = 0}, kBegin);
  expect_wait(limits.wait(0, kBegin).ns, 2000 * kMs);  // They took longer: a debt.
}

TEST(RateLimits, TheLongestWaitIsTold) {
  RateLimits limits;
  limits.set({.bytes = 1000, .requests = 2}, kBegin);
  EXPECT_EQ(limits.wait(uint64_t{1} << 60, kBegin).ns, 0U) << "device time is not limited";
  limits.take_request(kBegin);
  limits.take_request(kBegin);
  EXPECT_EQ(limits.wait(0, kBegin).of, RateLimits::Of::kRequests);
  expect_wait(limits.wait(0, kBegin).ns, 500 * kMs);
  limits.take_bytes(2000, kBegin);
  EXPECT_EQ(limits.wait(0, kBegin).of, RateLimits::Of::kBytes);
  expect_wait(limits.wait(0, kBegin).ns, 1001 * kMs);
}

TEST(RateLimits, AreKeptAtAdmissionForTheirTenantAlone) {
  Admission admission(100);
  Admission::Place alice{&admission.queue("alice")};
  Admission::Place bob{&admission.queue("bob")};
  alice.queue->rates.set({.requests = 3}, kBegin);
  for (int i = 0; i < 3; ++i) {
    ASSERT_FALSE(admission.refuse(alice, kBegin)) << i;
    admission.add(alice, {.expected_ns = kMs}, kBegin);
    admission.end(alice);
  }
  EXPECT_EQ(admission.refuse(alice, kBegin)->retry_after_ms, 334U)
      << "in whole milliseconds, and not too early";
  EXPECT_EQ(admission.refuse(alice, kBegin + 333 * kMs)->retry_after_ms, 1U);
  EXPECT_FALSE(admission.refuse(alice, kBegin + 334 * kMs));
  EXPECT_FALSE(admission.refuse(bob, kBegin));
  EXPECT_EQ(admission.refusals().requests, 2U);
  EXPECT_EQ(alice.queue->rate_refusals, 2U);
  EXPECT_EQ(bob.queue->rate_refusals, 0U);
  alice.queue->rates.set({.requests = 0.01}, kBegin + kSecond);
  for (int i = 0; i < 3; ++i) admission.add(alice, {.expected_ns = kMs}, kBegin + kSecond);
  EXPECT_EQ(admission.refuse(alice, kBegin + kSecond)->retry_after_ms, kRetryAfterMsMax)
      << "and then again";
}

}  // namespace
}  // namespace djinn::server
