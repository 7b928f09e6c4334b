// SPDX-License-Identifier: Apache-2.0
// A server that drains: what it has taken it does, whoever comes is told, and then it ends.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "serialization/transport/socket.h"
#include "tests/support/guest.h"

namespace djinn::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using transport::FrameKind;

constexpr milliseconds kPatience{10'000};

uint64_t queued_jobs(TestServer& server) {
  const auto report = server.report(kPatience);
  return report ? report->queued_jobs : UINT64_MAX;
}

// Somebody connects, says nothing, and goes. Whether there was a door.
bool knocks(TestServer& server) {
  return transport::connect_socket(server.unix_socket, kPatience).has_value();
}

TestServer::Options two_tenants() {
  TestServer::Options out;
  out.server.access = server::Access::parse("a=alice\nb=bob\n").value();
  return out;
}

TEST(Drain, AnswersEveryJobThatWasTakenAndSaysGoodbyeThen) {
  TestServer server(two_tenants());
  Guest alice(server, "a");
  Guest bob(server, "b");
  Guest idle(server, "b");
  server.device.asleep = true;
  for (int i = 0; i < 5; ++i) {
    alice.sleep(0);
    bob.sleep(0);
  }
  ASSERT_TRUE(eventually([&] { return queued_jobs(server) == 10; }));
  const auto begun = server.drain(kPatience);
  ASSERT_TRUE(begun) << begun.error().message;
  EXPECT_TRUE(begun->draining);
  EXPECT_EQ(begun->queued_jobs, 10U) << "nothing is thrown away";
  EXPECT_EQ(idle.client.read_ending().code, ErrorCode::kUnavailable) << "who waits for nothing";
  server.device.asleep = false;
  for (Guest* const guest : {&alice, &bob}) {
    for (uint32_t i = 0; i < 5; ++i) {
      const auto answer = guest->client.receive_answer();
      ASSERT_TRUE(answer && answer->kind == FrameKind::kFetched) << i;
      EXPECT_EQ(answer->floats(), Guest::kTensor);
    }
    const auto ending = guest->client.read_ending();
    EXPECT_EQ(ending.code, ErrorCode::kUnavailable);
    EXPECT_THAT(ending.message, HasSubstr("shutting down"));
  }
  server.join();  // It ends by itself.
}

TEST(Drain, WhoComesMeanwhileIsToldSoAndCounted) {
  TestServer server;
  Guest guest(server);
  server.device.asleep = true;
  guest.sleep(0);
  ASSERT_TRUE(eventually([&] { return queued_jobs(server) == 1; }));
  ASSERT_TRUE(server.drain(kPatience));
  ASSERT_TRUE(server.drain(kPatience)) << "to ask twice changes nothing";
  for (uint64_t i = 1; i <= 3; ++i) {
    WireClient late(server.tcp);
    late.send(FrameKind::kHello, WireClient::usual_hello());
    const auto frame = late.receive();
    ASSERT_TRUE(frame && frame->kind == FrameKind::kGoodbye);
    const auto goodbye = frame->as<codec::Goodbye>();
    EXPECT_EQ(static_cast<ErrorCode>(goodbye.code), ErrorCode::kUnavailable);
    EXPECT_THAT(std::string(goodbye.message), HasSubstr("drains"));
    EXPECT_GT(goodbye.retry_after_ms, 0U);
    EXPECT_EQ(server.report(kPatience).value().refusals.draining, i);
  }
  server.device.asleep = false;
  const auto answer = guest.client.receive_answer();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->kind, FrameKind::kFetched);
  EXPECT_EQ(guest.client.read_ending().code, ErrorCode::kUnavailable);
  server.join();
}

TEST(Drain, EndsThoughPeersComeAgainAndAgain) {
  TestServer server;
  std::atomic<bool> over = false;
  std::thread knocking([&] {
    while (!over) (void)knocks(server);
  });
  ASSERT_TRUE(eventually([&] { return server.sessions() > 0; }));
  ASSERT_TRUE(server.drain(kPatience));
  server.join();
  over = true;
  knocking.join();
}

TEST(Drain, AStopMeanwhileClosesTheDoorAndTheJobStillEnds) {
  TestServer server;
  Guest guest(server);
  server.device.asleep = true;
  guest.sleep(0);
  ASSERT_TRUE(eventually([&] { return queued_jobs(server) == 1; }));
  ASSERT_TRUE(server.drain(kPatience));
  EXPECT_TRUE(knocks(server));
  server.begin_stop();
  EXPECT_TRUE(eventually([&] { return !knocks(server); })) << "nobody can come any more";
  server.device.asleep = false;
  const auto answer = guest.client.receive_answer();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->kind, FrameKind::kFetched);
  server.join();
}

}  // namespace
}  // namespace djinn::testing
