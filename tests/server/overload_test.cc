// SPDX-License-Identifier: Apache-2.0
// A server with more to do than it takes on: what it refuses, it refuses before anything is done.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "tests/support/guest.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using server::Access;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using transport::FrameKind;

TestServer::Options options(uint64_t queue_max, server::TenantTable tenants = {}) {
  TestServer::Options out;
  out.server.access = Access::parse("a=alice\nb=bob\n").value();
  out.server.tenants = std::move(tenants);
  out.server.queue_max = queue_max;
  out.server.chunk_ns = 0;
  return out;
}

server::ServerReport report(TestServer& server) {
  auto out = server.report(milliseconds(5000));
  return out ? *out : server::ServerReport{};
}

TEST(Overload, AJobTooManyIsRefusedBeforeAnythingIsDoneForItAndRunsWhenItComesAgain) {
  TestServer server(options(4));
  Guest guest(server, "a");
  server.device.asleep = true;
  for (int i = 0; i < 4; ++i) guest.sleep(1);
  ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
  const uint64_t admitted = server.device.plans_admitted;
  const auto asked = steady_clock::now();
  const uint32_t job = guest.client.submit([&](PlanWriter& writer) {  // a plan it does not know
    record_fetch(writer, guest.tensor);
    record_sleep(guest.client, writer, 0);
    record_sleep(guest.client, writer, 0);
  });
  guest.sleep(1);  // Sent before the refusal was read: dropped.
  const auto frame = guest.client.receive_answer();
  ASSERT_TRUE(frame && frame->kind == FrameKind::kRefused);
  EXPECT_LT(steady_clock::now() - asked, milliseconds(200));
  const auto refused = frame->as<codec::Refused>();
  EXPECT_EQ(refused.job, job);
  EXPECT_EQ(refused.epoch, 1U);
  EXPECT_EQ(static_cast<ErrorCode>(refused.code), ErrorCode::kExhausted);
  EXPECT_GE(refused.retry_after_ms, 1U);
  EXPECT_LE(refused.retry_after_ms, kRetryAfterMsMax);
  EXPECT_EQ(server.device.plans_admitted, admitted) << "nobody looked at its plan";
  EXPECT_EQ(report(server).queued_jobs, 4U);
  EXPECT_EQ(report(server).refusals.queue, 1U);
  server.device.asleep = false;
  for (int i = 0; i < 4; ++i) {
    const auto answer = guest.client.receive_answer();
    ASSERT_TRUE(answer && answer->kind == FrameKind::kFetched) << i;
  }
  guest.begin_epoch(refused);
  EXPECT_EQ(guest.sleep(1), job);
  const auto again = guest.client.receive_answer();
  ASSERT_TRUE(again && again->kind == FrameKind::kFetched);
  EXPECT_EQ(again->as<codec::Fetched>().job, job);
  EXPECT_EQ(report(server).queued_jobs, 0U);
}

TEST(Overload, ATenantsFloodIsNoReasonToRefuseAnother) {
  TestServer server(options(8, {{"bob", {.queue_max = 2}}}));
  Guest flooding(server, "a");
  Guest bob(server, "b");
  server.device.asleep = true;
  for (int i = 0; i < 9; ++i) flooding.sleep(0);
  const auto refused = flooding.client.receive_answer();
  ASSERT_TRUE(refused && refused->kind == FrameKind::kRefused);
  bob.sleep(0);
  bob.sleep(0);
  bob.sleep(0);
  const auto own = bob.client.receive_answer();
  ASSERT_TRUE(own && own->kind == FrameKind::kRefused) << "the third: his own limit";
  EXPECT_EQ(own->as<codec::Refused>().job, 5U);
  EXPECT_EQ(report(server).refusals.queue, 1U);
  EXPECT_EQ(report(server).refusals.tenant_queue, 1U);
  server.device.asleep = false;
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(bob.client.receive_answer());
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(flooding.client.receive_answer());
}

TEST(Overload, TellsTheTruthAboutWhenToComeAgain) {
  TestServer server(options(20));
  if (server.device.works_on_its_own()) GTEST_SKIP() << "its jobs take no time here";
  Guest guest(server, "a");
  for (int i = 0; i < 3; ++i) {  // So that the plan is known, and how long it takes.
    guest.sleep(10);
    ASSERT_TRUE(guest.client.receive_answer());
  }
  for (int i = 0; i < 21; ++i) guest.sleep(10);
  std::optional<codec::Refused> refused;
  const auto asked = steady_clock::now();
  std::vector<steady_clock::time_point> ended;
  while (ended.size() < 10 || !refused) {
    const auto frame = guest.client.receive_answer();
    ASSERT_TRUE(frame);
    if (frame->kind == FrameKind::kRefused) {
      refused = frame->as<codec::Refused>();
    } else {
      ended.push_back(steady_clock::now());
    }
  }
  const double truth_ms = std::chrono::duration<double, std::milli>(ended[9] - asked).count();
  EXPECT_NEAR(refused->retry_after_ms, truth_ms, truth_ms / 2) << "half of twenty jobs";
}

TEST(Overload, WhoGoesLeavesItsPlacesInTheQueue) {
  TestServer server(options(4));
  auto gone = std::make_unique<Guest>(server, "a");
  server.device.asleep = true;
  for (int i = 0; i < 4; ++i) gone->sleep(0);
  ASSERT_TRUE(eventually([&] { return report(server).queued_jobs == 4; }));
  gone.reset();
  EXPECT_TRUE(eventually([&] { return report(server).queued_jobs == 0; }));
  server.device.asleep = false;
  Guest next(server, "a");
  next.sleep(0);
  const auto answer = next.client.receive_answer();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->kind, FrameKind::kFetched);
}

TEST(Overload, AHelloTooManyIsToldWhenToComeAgain) {
  TestServer server(options(4, {{"alice", {.sessions_max = 1}}}));
  Guest first(server, "a");
  WireClient second(server.unix_socket);
  codec::Hello hello = WireClient::usual_hello();
  hello.token = "a";
  second.send(FrameKind::kHello, hello);
  const auto frame = second.receive();
  ASSERT_TRUE(frame && frame->kind == FrameKind::kGoodbye);
  const auto goodbye = frame->as<codec::Goodbye>();
  EXPECT_EQ(static_cast<ErrorCode>(goodbye.code), ErrorCode::kExhausted);
  EXPECT_EQ(goodbye.retry_after_ms, 1000U);
  EXPECT_EQ(report(server).refusals.tenant_sessions, 1U);
}

TEST(Overload, EpochsBeginAgainBehindTheLast) {
  TestServer server(options(2));
  Guest guest(server, "a");
  server.device.asleep = true;
  guest.sleep(0);
  guest.sleep(0);
  for (uint32_t i = 1; i <= UINT16_MAX + 3U; ++i) {
    guest.sleep(0);
    const auto frame = guest.client.receive_answer();
    ASSERT_TRUE(frame && frame->kind == FrameKind::kRefused) << i;
    ASSERT_EQ(frame->as<codec::Refused>().epoch, static_cast<uint16_t>(i));
    guest.begin_epoch(frame->as<codec::Refused>());
  }
  server.device.asleep = false;
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(guest.client.receive_answer());
  guest.sleep(0);
  const auto answer = guest.client.receive_answer();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->kind, FrameKind::kFetched);
}

}  // namespace
}  // namespace djinn::testing
