// SPDX-License-Identifier: Apache-2.0
// When a refused job is sent again.
#include "client/session/backoff.h"

#include <gtest/gtest.h>

namespace djinn::client {
namespace {

using std::chrono::milliseconds;

TEST(Backoff, IsNeverEarlierThanTheServerSaidAndSpreadsMoreWithEachRefusal) {
  Backoff backoff(7);
  const auto now = Backoff::Clock::now();
  EXPECT_FALSE(backoff.due());
  milliseconds most = Backoff::kJitterMin;
  milliseconds latest{0};
  for (int i = 0; i < 40; ++i) {
    backoff.refused(5, 30, now);
    const auto wait = std::chrono::duration_cast<milliseconds>(*backoff.due() - now);
    EXPECT_GE(wait, milliseconds(30));
    EXPECT_LE(wait, milliseconds(30) + most);
    most = std::min(2 * most, Backoff::kJitterMax);
    latest = std::max(latest, wait);
    backoff.sent();
    EXPECT_FALSE(backoff.due());
  }
  EXPECT_GT(latest, milliseconds(500));
  EXPECT_EQ(backoff.refusals(), 40U);
}

TEST(Backoff, BelievesNoServerThatSaysForEver) {
  Backoff backoff(7);
  const auto now = Backoff::Clock::now();
  backoff.refused(1, UINT32_MAX, now);
  EXPECT_LE(*backoff.due() - now, milliseconds(kRetryAfterMsMax) + Backoff::kJitterMin);
}

TEST(Backoff, BeginsAnewWithAnotherJobAndWhenTheJobWasLetIn) {
  Backoff backoff(7);
  const auto now = Backoff::Clock::now();
  backoff.refused(UINT32_MAX, 1, now);
  backoff.refused(UINT32_MAX, 1, now + milliseconds(9));
  EXPECT_EQ(backoff.since(), now);
  backoff.ended_before(UINT32_MAX);  // Those before it have ended.
  EXPECT_EQ(backoff.since(), now);
  backoff.ended_before(0);  // And it itself: the next number.
  EXPECT_FALSE(backoff.since());
  backoff.refused(3, 1, now + milliseconds(20));
  EXPECT_EQ(backoff.refusals(), 1U);
  backoff.refused(4, 1, now + milliseconds(30));
  EXPECT_EQ(backoff.since(), now + milliseconds(30));
}

}  // namespace
}  // namespace djinn::client
