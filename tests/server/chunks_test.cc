// SPDX-License-Identifier: Apache-2.0
// Chunks: a long job gives way to whoever waits, and goes on as if nothing had been.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "tests/support/guest.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::ElementsAre;
using transport::FrameKind;

class Chunks : public ::testing::Test {
 protected:
  void SetUp() override {
    if (server.device.works_on_its_own()) GTEST_SKIP() << "jobs of such a device have no chunks";
  }
  // Somebody's job has given way to a job of the other, which runs for so long.
  void suspend(Guest& who, Guest& by, int64_t ms) {
    ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
    by.sleep(ms);
    ASSERT_TRUE(eventually([&] { return server.device.suspensions > 0; }));
    ASSERT_TRUE(eventually([&] { return server.device.running > 0; })) << who.client.next_job;
  }
  TestServer server;
};

TEST_F(Chunks, ALongJobGivesWayAndGoesOn) {
  Guest busy(server);
  Guest other(server);
  Tensor sum = make_tensor(busy.client, 2);
  busy.client.submit([&](PlanWriter& writer) {
    busy.record_sleeps(writer, 1000, 10);
    record_add(busy.client, writer, busy.tensor, busy.tensor, sum);
    busy.record_sleeps(writer, 1000, 10);
    record_fetch(writer, sum);
  });
  ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
  for (int i = 0; i < 5; ++i) EXPECT_THAT(other.ask(), ElementsAre(1, 2));
  EXPECT_GE(server.device.suspensions, 1U);
  const auto early = busy.client.receive(milliseconds(0));
  EXPECT_TRUE(!early || early->kind != FrameKind::kFetched) << "nobody waited for the long job";
  server.device.restless = true;
  const auto answer = busy.client.receive_answer();
  ASSERT_TRUE(answer && answer->kind == FrameKind::kFetched);
  EXPECT_THAT(answer->floats(), ElementsAre(2, 4));
}

TEST_F(Chunks, WhoIsAloneIsNeverInterrupted) {
  Guest only(server);
  EXPECT_THAT(only.client.fetch([&](PlanWriter& writer) {
    only.record_sleeps(writer, 20, 5);
    record_fetch(writer, only.tensor);
  }),
              ElementsAre(1, 2));
  EXPECT_EQ(server.device.suspensions, 0U);
}

TEST_F(Chunks, AnswersThatAreThereLeaveBeforeTheJobGoesOn) {
  Guest busy(server);
  Guest other(server);
  busy.client.submit([&](PlanWriter& writer) {
    record_fetch(writer, busy.tensor);
    busy.record_sleeps(writer, 10, 10);
    record_fetch(writer, busy.tensor);
  });
  suspend(busy, other, 1000);
  const auto begin = steady_clock::now();
  const auto first = busy.client.receive_answer();
  EXPECT_LT(steady_clock::now() - begin, milliseconds(700));
  ASSERT_TRUE(first);
  EXPECT_FALSE(first->as<codec::Fetched>().finished);
  const auto second = busy.client.receive_answer();
  ASSERT_TRUE(second);
  EXPECT_TRUE(second->as<codec::Fetched>().finished);
}

TEST_F(Chunks, WhatFailsBeforeAJobGivesWayIsKnownBehindIt) {
  Guest busy(server);
  Guest other(server);
  Tensor failed = make_tensor(busy.client, 2);
  busy.client.submit([&](PlanWriter& writer) {
    record_fail(busy.client, writer, busy.tensor, failed);
    busy.record_sleeps(writer, 10, 10);
    record_fetch(writer, failed);
    record_fetch(writer, busy.tensor);
  });
  suspend(busy, other, 20);
  const auto bad = busy.client.receive_answer();
  ASSERT_TRUE(bad);
  EXPECT_EQ(bad->kind, FrameKind::kFailed);
  const auto good = busy.client.receive_answer();
  ASSERT_TRUE(good && good->kind == FrameKind::kFetched);
  EXPECT_THAT(good->floats(), ElementsAre(1, 2));
}

TEST_F(Chunks, WhoLeavesAmidASuspendedJobLeavesNothing) {
  Guest other(server);
  const uint64_t before = server.device.used_bytes;
  auto gone = std::make_unique<Guest>(server);
  Tensor large = make_tensor(gone->client, 2);
  gone->client.submit([&](PlanWriter& writer) {
    record_add(gone->client, writer, gone->tensor, gone->tensor, large);
    gone->record_sleeps(writer, 100, 10);
    record_fetch(writer, large);
  });
  suspend(*gone, other, 300);
  gone.reset();
  ASSERT_TRUE(other.client.receive_answer());
  EXPECT_TRUE(eventually([&] { return server.device.replays == 1; }));
  EXPECT_EQ(server.device.used_bytes, before);
  EXPECT_THAT(other.ask(), ElementsAre(1, 2));
}

TEST_F(Chunks, AJobOfWhoHasLeftEndsWithinAChunk) {
  auto gone = std::make_unique<Guest>(server);
  gone->client.submit([&](PlanWriter& writer) { gone->record_sleeps(writer, 200, 10); });
  ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
  const auto begin = steady_clock::now();
  gone.reset();
  EXPECT_TRUE(eventually([&] { return server.device.replays == 0; }));
  EXPECT_LT(steady_clock::now() - begin, milliseconds(1000)) << "two seconds were left of it";
}

TEST_F(Chunks, DrainsJobsThatHaveGivenWay) {
  Guest busy(server);
  Guest other(server);
  busy.client.submit([&](PlanWriter& writer) {
    busy.record_sleeps(writer, 20, 10);
    record_fetch(writer, busy.tensor);
  });
  suspend(busy, other, 100);
  server.begin_stop();
  for (Guest* const each : {&busy, &other}) {
    const auto answer = each->client.receive_answer();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->kind, FrameKind::kFetched);
    EXPECT_EQ(each->client.read_ending().code, ErrorCode::kUnavailable);
    each->client.close();
  }
  server.join();
}

TEST_F(Chunks, AServerThatIsStoppedAtOnceDropsThem) {
  Guest busy(server);
  Guest other(server);
  busy.client.submit([&](PlanWriter& writer) { busy.record_sleeps(writer, 500, 10); });
  suspend(busy, other, 50);
  const auto begin = steady_clock::now();
  server.begin_stop();
  server.stop();
  EXPECT_LT(steady_clock::now() - begin, milliseconds(2000));
}

TEST(LongJobs, DoNotGiveWayIfChunksAreOff) {
  TestServer::Options options;
  options.server.chunk_ns = 0;
  TestServer server(options);
  Guest busy(server);
  Guest other(server);
  busy.client.submit([&](PlanWriter& writer) { busy.record_sleeps(writer, 20, 10); });
  ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
  EXPECT_THAT(other.ask(), ElementsAre(1, 2));
  EXPECT_EQ(server.device.suspensions, 0U);
}

}  // namespace
}  // namespace djinn::testing
