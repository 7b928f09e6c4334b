// SPDX-License-Identifier: Apache-2.0
// What is learnt of a plan, and how far it is trusted.
#include "server/session/plan_knowledge.h"

#include <gtest/gtest.h>

namespace djinn::server {
namespace {

constexpr uint64_t kMs = 1'000'000;

TEST(PlanKnowledge, ExpectsWhatRunsOfThatSizeTook) {
  const graph::Plan plan;
  PlanKnowledge knowledge(plan);
  const JobSize small{.elements = 1000};
  const JobSize large{.elements = 9000};
  EXPECT_EQ(knowledge.expected_ns(small), 0U) << "nobody knows";
  knowledge.ran(small, 0, 500 * kMs);  // The first builds what the next ones find.
  for (int i = 0; i < 20; ++i) {
    knowledge.ran(small, 0, 1 * kMs);
    knowledge.ran(large, 0, 9 * kMs);
  }
  EXPECT_NEAR(static_cast<double>(knowledge.expected_ns(small)), 1.0 * kMs, 0.1 * kMs);
  EXPECT_NEAR(static_cast<double>(knowledge.expected_ns({.elements = 5000})), 5.0 * kMs, 0.5 * kMs);
}

TEST(PlanKnowledge, IsNotTrustedAfterAFirstRunAndNowAndThenNotAtAll) {
  const graph::Plan plan;
  PlanKnowledge knowledge(plan);
  EXPECT_FALSE(knowledge.is_known());
  knowledge.ran({.elements = 1}, 0, kMs);
  EXPECT_FALSE(knowledge.is_known()) << "that one built what the next ones find";
  knowledge.ran({.elements = 1}, 0, kMs);
  EXPECT_TRUE(knowledge.is_known());
  int let_in = 0;
  for (int i = 0; i < 2560; ++i) let_in += knowledge.may_refuse() ? 0 : 1;
  EXPECT_EQ(let_in, 10);
}

}  // namespace
}  // namespace djinn::server
