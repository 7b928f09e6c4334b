// SPDX-License-Identifier: Apache-2.0
// Lockstep: jobs of several sessions with one plan and the same shared bytes run together; each
// is otherwise as if it were alone.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "tests/support/guest.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using ::testing::ElementsAre;
using transport::FrameKind;

struct Tenant : Guest {
  using Guest::Guest;
  // A step: a product, and some time in pieces of five milliseconds.
  void begin_step(int pieces = 2) { begin_step_on(tensor, pieces); }
  void begin_step_on(Tensor& of, int pieces = 2) {
    product = make_tensor(client, 2);
    client.submit([&](PlanWriter& writer) {
      for (int i = 0; i < pieces; ++i) record_sleep(client, writer, 5);
      writer.op(client.op("aten::mm"), 2);
      writer.tensor();
      record_operand(writer, of);
      writer.tensor();
      record_operand(writer, of);
      writer.results(1);
      writer.tensor();
      record_operand(writer, product);
      record_fetch(writer, product);
    });
  }
  std::vector<float> end_step() {
    const auto answer = client.receive_answer();
    if (!answer || answer->kind != FrameKind::kFetched) return {};
    return answer->floats();
  }
  std::vector<float> step(int pieces = 2) {
    begin_step(pieces);
    return end_step();
  }
  Tensor product;
};

TestServer::Options up_to(size_t jobs) {
  TestServer::Options options;
  options.server.lockstep = jobs;
  return options;
}

class Lockstep : public ::testing::Test {
 protected:
  void SetUp() override {
    if (server_.device.works_on_its_own()) GTEST_SKIP() << "such a device runs jobs one by one";
    server_.device.shared_name = 7;
  }
  // With a first step behind them, from which the server knows what they share.
  std::vector<std::unique_ptr<Tenant>> seat(size_t count, int pieces = 2) {
    std::vector<std::unique_ptr<Tenant>> out;
    for (size_t i = 0; i < count; ++i) {
      out.push_back(std::make_unique<Tenant>(server_));
      EXPECT_THAT(out.back()->step(pieces), ElementsAre(1, 4));
    }
    return out;
  }
  // Somebody else has the device until `asleep` is false; what is submitted meanwhile waits.
  void occupy(Tenant& by) {
    server_.device.asleep = true;
    by.sleep(1);
    ASSERT_TRUE(eventually([&] { return server_.device.running > 0; }));
  }
  void wait_for(size_t jobs) {
    ASSERT_TRUE(eventually([&] {
      const auto report = server_.report(std::chrono::milliseconds(1000));
      size_t in_flight = 0;
      for (const auto& session : report->sessions) in_flight += session.in_flight;
      return in_flight == jobs;
    }));
  }
  // A step of each, which all wait at the same time.
  void begin_together(Tenant& other, std::vector<std::unique_ptr<Tenant>>& tenants,
                      int pieces = 2) {
    occupy(other);
    for (const auto& each : tenants) each->begin_step(pieces);
    wait_for(tenants.size() + 1);
    server_.device.asleep = false;
    ASSERT_TRUE(other.client.receive_answer());
  }

  TestServer server_{up_to(4)};
};

TEST_F(Lockstep, JobsThatWaitRunTogetherAndEachGetsItsAnswer) {
  Tenant other(server_);
  auto tenants = seat(3);
  EXPECT_EQ(server_.device.groups, 0U) << "alone so far";
  begin_together(other, tenants);
  for (const auto& each : tenants) EXPECT_THAT(each->end_step(), ElementsAre(1, 4));
  EXPECT_EQ(server_.device.groups, 1U);
  EXPECT_EQ(server_.device.members, 3U);
  const auto report = server_.report(std::chrono::milliseconds(1000));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->lockstep.groups, 1U);
  EXPECT_EQ(report->lockstep.jobs, 3U);
}

TEST_F(Lockstep, NoMoreRunTogetherThanTheOperatorSaid) {
  Tenant other(server_);
  auto tenants = seat(6);
  begin_together(other, tenants);
  for (const auto& each : tenants) EXPECT_THAT(each->end_step(), ElementsAre(1, 4));
  const auto report = server_.report(std::chrono::seconds(10));  // The first may have given way.
  ASSERT_TRUE(report);
  EXPECT_EQ(report->lockstep.groups, 2U);
  EXPECT_EQ(report->lockstep.jobs, 6U);
}

TEST_F(Lockstep, WhoSharesNoBytesRunsAlone) {
  server_.device.shared_name = 0;
  Tenant other(server_);
  auto tenants = seat(3);
  begin_together(other, tenants);
  for (const auto& each : tenants) EXPECT_THAT(each->end_step(), ElementsAre(1, 4));
  EXPECT_EQ(server_.device.groups, 0U);
}

TEST_F(Lockstep, AnotherPlanRunsAlone) {
  Tenant other(server_);
  auto tenants = seat(2);
  tenants.push_back(std::make_unique<Tenant>(server_));
  EXPECT_THAT(tenants[2]->step(3), ElementsAre(1, 4));
  occupy(other);
  for (size_t i = 0; i < 3; ++i) tenants[i]->begin_step(i < 2 ? 2 : 3);
  wait_for(4);
  server_.device.asleep = false;
  for (const auto& each : tenants) EXPECT_THAT(each->end_step(), ElementsAre(1, 4));
  EXPECT_EQ(server_.report(std::chrono::milliseconds(1000))->lockstep.jobs, 2U);
}

TEST_F(Lockstep, TheErrorOfOneIsNotThatOfTheOthers) {
  Tenant other(server_);
  auto tenants = seat(3);
  occupy(other);
  Tensor nothing = make_tensor(tenants[1]->client, 2);
  tenants[1]->client.submit([&](PlanWriter& writer) {  // Made, and never written.
    record_add(tenants[1]->client, writer, tenants[1]->tensor, tenants[1]->tensor, nothing);
  });
  nothing.size = 1 << 20;  // An operand beyond its storage.
  tenants[0]->begin_step();
  tenants[1]->begin_step_on(nothing);
  tenants[2]->begin_step();
  wait_for(5);
  server_.device.asleep = false;
  EXPECT_THAT(tenants[0]->end_step(), ElementsAre(1, 4));
  const auto failed = tenants[1]->client.receive_answer();
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->kind, FrameKind::kFailed);
  EXPECT_THAT(tenants[2]->end_step(), ElementsAre(1, 4));
}

TEST_F(Lockstep, AGroupGivesWayAndGoesOnTogether) {
  Tenant other(server_);
  auto tenants = seat(3, 20);
  begin_together(other, tenants, 20);
  ASSERT_TRUE(eventually([&] { return server_.device.groups > 0; }));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(other.client.fetch([&](PlanWriter& writer) { record_fetch(writer, other.tensor); }),
              ElementsAre(1, 2));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(150))
      << "of 300 that the group takes";
  for (const auto& each : tenants) EXPECT_THAT(each->end_step(), ElementsAre(1, 4));
  EXPECT_GE(server_.device.suspensions, 3U);
  EXPECT_EQ(server_.device.members, 3 * server_.device.groups) << "nobody was left behind";
  EXPECT_EQ(server_.report(std::chrono::milliseconds(1000))->lockstep.groups, 1U);
}

TEST_F(Lockstep, WhoComesLateWaitsForTheNextStep) {
  Tenant other(server_);
  auto tenants = seat(3, 10);
  tenants[0]->begin_step(10);
  ASSERT_TRUE(eventually([&] { return server_.device.running > 0; }));
  tenants[1]->begin_step(10);  // Now the first is amid a step.
  tenants[2]->begin_step(10);
  tenants[0]->begin_step(10);  // Its next one.
  for (const auto& each : tenants) EXPECT_THAT(each->end_step(), ElementsAre(1, 4));
  EXPECT_THAT(tenants[0]->end_step(), ElementsAre(1, 4));
  EXPECT_EQ(server_.device.groups, 1U);
  EXPECT_EQ(server_.device.members, 3U) << "they fell into step";
  EXPECT_EQ(server_.device.suspensions, 0U) << "nobody who waits for a step interrupts it";
}

TEST_F(Lockstep, WhoLeavesAmidAGroupLeavesNothingAndTheOthersGoOn) {
  Tenant other(server_);
  const uint64_t before = server_.device.used_bytes;
  auto tenants = seat(3, 40);
  begin_together(other, tenants, 40);
  ASSERT_TRUE(eventually([&] { return server_.device.groups > 0; }));
  tenants[1].reset();
  EXPECT_THAT(tenants[0]->end_step(), ElementsAre(1, 4));
  EXPECT_THAT(tenants[2]->end_step(), ElementsAre(1, 4));
  tenants.clear();
  EXPECT_TRUE(eventually([&] { return server_.device.replays == 1; }));
  EXPECT_EQ(server_.device.used_bytes, before);
}

TEST_F(Lockstep, WhoAsksStepByStepStaysInStep) {
  constexpr int kSteps = 10;
  constexpr uint64_t kWanted = 30;
  constexpr int kTries = 20;  // A machine that has other things to do delays who should come back.
  auto tenants = seat(4, 4);
  uint64_t together = 0;
  for (int i = 0; i < kTries && together < kWanted; ++i) {
    const uint64_t before = server_.report(std::chrono::seconds(10))->lockstep.jobs;
    std::vector<std::jthread> threads;
    threads.reserve(tenants.size());
    for (const auto& each : tenants) {
      threads.emplace_back([&each] {
        for (int step = 0; step < kSteps; ++step) EXPECT_THAT(each->step(4), ElementsAre(1, 4));
      });
    }
    threads.clear();
    together = server_.report(std::chrono::seconds(10))->lockstep.jobs - before;
  }
  EXPECT_GE(together, kWanted) << "of four times as many";
}

TEST(NoLockstep, EachRunsAloneUnlessTheOperatorSaysOtherwise) {
  TestServer server;
  server.device.shared_name = 7;
  Tenant first(server);
  Tenant second(server);
  for (int i = 0; i < 5; ++i) {
    first.begin_step();
    second.begin_step();
    EXPECT_THAT(first.end_step(), ElementsAre(1, 4));
    EXPECT_THAT(second.end_step(), ElementsAre(1, 4));
  }
  EXPECT_EQ(server.device.groups, 0U);
}

}  // namespace
}  // namespace djinn::testing
