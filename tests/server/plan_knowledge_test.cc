// SPDX-License-Identifier: Apache-2.0
// What plans show of themselves: phase, size, time.
#include "server/session/plan_knowledge.h"

#include <gmock/gmock.h>

#include <array>
#include <chrono>

#include <gtest/gtest.h>

#include "scheduler/session_hints.h"
#include "serialization/graph/plan_reader.h"
#include "serialization/graph/plan_writer.h"
#include "tests/support/test_server.h"

namespace djinn::server {
namespace {

using graph::Dtype;

// A plan of one product, [rows, inner] x [inner, columns] -> [rows, columns], and another operator
// on its result.
class OneProduct {
 public:
  OneProduct(const std::string& product, const std::string& then) : mm_{product}, then_{then} {}

  graph::Plan plan(int64_t rows, int64_t inner, int64_t columns) {
    writer_.begin(10, 1);
    writer_.op(mm_, 2);
    tensor(left_, rows, inner);
    tensor(right_, inner, columns);
    writer_.results(1);
    tensor(made_, rows, columns);
    writer_.op(then_, 1);
    tensor(made_, rows, columns);
    writer_.results(0);
    const graph::Flush flush = writer_.finish();
    numbers.assign(flush.numbers.begin(), flush.numbers.end());
    return graph::read_plan(flush.structure).value();
  }
  std::vector<int64_t> numbers;

 private:
  void tensor(graph::StorageRecord& storage, int64_t rows, int64_t columns) {
    writer_.tensor();
    const std::array<int64_t, 2> sizes{rows, columns};
    const std::array<int64_t, 2> strides{columns, 1};
    writer_.operand(storage, Dtype::kFloat32, sizes, strides, 0);
  }
  graph::PlanWriter writer_;
  graph::OpName mm_;
  graph::OpName then_;
  graph::StorageRecord left_{.id = 5, .bytes = 1 << 20, .known = true};
  graph::StorageRecord right_{.id = 6, .bytes = 1 << 20, .known = true};
  graph::StorageRecord made_{.id = 10, .bytes = 1 << 20};
};

JobPhase phase_of(const std::string& then, int64_t rows) {
  OneProduct product("aten::mm", then);
  const graph::Plan plan = product.plan(rows, 64, 32);
  const PlanFacts facts(plan);
  return facts.phase(facts.size(plan, product.numbers));
}

TEST(PlanFacts, TellPhasesApartByWhatTheyCompute) {
  EXPECT_EQ(phase_of("aten::cat", 1), JobPhase::kDecode);
  EXPECT_EQ(phase_of("aten::cat", 37), JobPhase::kPrefill);
  EXPECT_EQ(phase_of("aten::scaled_dot_product_attention", 1), JobPhase::kDecode);
  EXPECT_EQ(phase_of("aten::relu", 1), JobPhase::kInference);
  EXPECT_EQ(phase_of("aten::threshold_backward", 1), JobPhase::kTraining);
}

TEST(PlanFacts, APlanWithoutProductsShowsNothing) {
  OneProduct product("aten::add.Tensor", "aten::cat");
  const graph::Plan plan = product.plan(1, 8, 8);
  const PlanFacts facts(plan);
  EXPECT_EQ(facts.phase(facts.size(plan, product.numbers)), JobPhase::kUnknown);
}

TEST(PlanFacts, CountWhatAProductCosts) {
  OneProduct product("aten::mm", "aten::relu");
  const graph::Plan plan = product.plan(10, 64, 32);
  const JobSize size = PlanFacts(plan).size(plan, product.numbers);
  EXPECT_EQ(size.flops, 2U * 10 * 64 * 32);
  EXPECT_EQ(size.rows, 10U);
  EXPECT_EQ(size.elements, 10U * 64 + 64 * 32 + 2 * 10 * 32);
}

TEST(PlanFacts, SizesThatMakeNoSenseAreNoTrouble) {
  OneProduct product("aten::mm", "aten::relu");
  const graph::Plan plan = product.plan(10, 64, 32);
  const PlanFacts facts(plan);
  for (const int64_t nasty : {INT64_MIN, int64_t{-1}, int64_t{0}, INT64_MAX}) {
    std::vector<int64_t> numbers(product.numbers.size(), nasty);
    EXPECT_LE(facts.size(plan, numbers).units(), uint64_t{1} << 50);
  }
}

TEST(Fit, FollowsALineAndForgetsWhatWas) {
  Fit fit;
  EXPECT_EQ(fit.at(100), 0) << "nobody knows";
  fit.add(100, 5000);
  EXPECT_NEAR(fit.at(100), 5000, 1);
  EXPECT_NEAR(fit.at(200), 10'000, 1) << "one point: in proportion";
  for (int i = 0; i < 50; ++i) fit.add(100 + i, 20'000 + 10.0 * (100 + i));
  EXPECT_NEAR(fit.at(200), 22'000, 300);
  for (int i = 0; i < 50; ++i) fit.add(100 + i, 40'000);
  EXPECT_NEAR(fit.at(120), 40'000, 500);
}

TEST(Fit, MoreWorkNeverTakesLess) {
  Fit fit;
  for (int i = 0; i < 50; ++i) fit.add(100 + i, 20'000 - 100.0 * i);
  EXPECT_GE(fit.at(200), fit.at(100));
}

TEST(Classes, AnAppIsBelievedAndElseThePlan) {
  using sched::Class;
  EXPECT_EQ(sched::class_of({}, JobPhase::kDecode), Class::kLatencyCritical);
  EXPECT_EQ(sched::class_of({}, JobPhase::kTraining), Class::kBestEffort);
  EXPECT_EQ(sched::class_of({}, JobPhase::kPrefill), Class::kInteractive);
  EXPECT_EQ(sched::class_of({.phase = JobPhase::kTraining}, JobPhase::kDecode), Class::kBestEffort);
  EXPECT_EQ(sched::class_of({.urgency = Urgency::kInteractive}, JobPhase::kTraining),
            Class::kInteractive);
}

TEST(Plans, AServerKnowsWhatTheirJobsTakeAndTheLongestOperator) {
  testing::TestServer server;
  testing::WireClient client(server.tcp);
  ASSERT_TRUE(client.hello());
  for (int i = 0; i < 20; ++i) {
    client.submit([&](graph::PlanWriter& writer) {
      record_sleep(client, writer, 2);
      record_sleep(client, writer, 8);
      record_sleep(client, writer, 1);
    });
  }
  EXPECT_EQ(client.stats().jobs_executed, 20U);
  const auto report = server.report(std::chrono::milliseconds(5000));
  ASSERT_TRUE(report);
  ASSERT_EQ(report->plans.size(), 1U);
  const PlanReport& plan = report->plans[0];
  EXPECT_EQ(plan.jobs, 20U);
  EXPECT_EQ(plan.operators, 3U);
  EXPECT_GE(plan.expected_ns, 11'000'000U);
  EXPECT_GE(plan.used_ns, 20 * plan.expected_ns / 2);
  EXPECT_EQ(plan.longest_operator, "test::sleep");
  EXPECT_GE(plan.longest_operator_ns, 8'000'000U);
  EXPECT_LT(plan.longest_operator_ns, plan.expected_ns);
}

}  // namespace
}  // namespace djinn::server
