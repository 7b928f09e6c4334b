// SPDX-License-Identifier: Apache-2.0
// What every transport promises about the beginning and the end of a connection.
#include <algorithm>
#include <array>

#include "serialization/base/limits.h"
#include "tests/conformance/transport/pair.h"

namespace djinn::transport {
namespace {

using namespace std::chrono_literals;
using Connections = testing::TestWithParam<Kind>;
INSTANTIATE_TEST_SUITE_P(Transports, Connections, testing::ValuesIn(all_kinds()), kind_name);

constexpr std::span<const std::byte> kNothing{};

void send_small(Connection& connection) {
  connection.send(FrameKind::kStep, std::array<std::byte, 8>{}, kNothing, nullptr);
}

TEST_P(Connections, ReportOnceThatThePeerIsGone) {
  Pair pair(GetParam());
  send_small(*pair.client);
  ASSERT_TRUE(pair.run_until([&] { return pair.at_server.complete(1); }));
  pair.client.reset();
  ASSERT_TRUE(pair.run_until([&] { return pair.at_server.closed > 0; }));
  pair.run_until([] { return false; }, 20ms);
  EXPECT_EQ(pair.at_server.closed, 1);
  EXPECT_EQ(pair.at_server.reason.code, ErrorCode::kUnavailable);
}

TEST_P(Connections, RunDoneAndNothingElseWhenSendComesAfterTheEnd) {
  Pair pair(GetParam());
  pair.client.reset();
  ASSERT_TRUE(pair.run_until([&] { return pair.at_server.closed > 0; }));
  const auto payload = random_bytes(100'000, 1);
  bool done = false;
  pair.server->send(FrameKind::kFetched, {}, payload, [&] { done = true; });
  EXPECT_FALSE(done) << "callbacks run inside of run_once only";
  EXPECT_TRUE(pair.run_until([&] { return done; }));
  EXPECT_EQ(pair.at_server.closed, 1);
}

TEST_P(Connections, RunEveryDoneWhenThePeerDiesInTheMiddle) {
  Pair pair(GetParam());
  pair.server->pause_reading(true);
  const auto payload = random_bytes(4 << 20, 1);
  int done = 0;
  for (int i = 0; i < 8; ++i) pair.client->send(FrameKind::kUpload, {}, payload, [&] { ++done; });
  pair.run_until([] { return false; }, 20ms);
  EXPECT_LT(done, 8);
  pair.server.reset();
  ASSERT_TRUE(pair.run_until([&] { return pair.at_client.closed > 0; }));
  EXPECT_EQ(done, 8);
  EXPECT_EQ(pair.at_client.closed, 1);
  EXPECT_EQ(pair.at_client.reason.code, ErrorCode::kUnavailable);
}

TEST_P(Connections, EndWithTheErrorOfTheirSink) {
  Pair pair(GetParam());
  pair.at_server.refuse = true;
  send_small(*pair.client);
  send_small(*pair.client);
  ASSERT_TRUE(
      pair.run_until([&] { return pair.at_server.closed > 0 && pair.at_client.closed > 0; }));
  EXPECT_EQ(pair.at_server.frames.size(), 1U);
  EXPECT_EQ(pair.at_server.reason.code, ErrorCode::kDenied);
  EXPECT_EQ(pair.at_client.reason.code, ErrorCode::kUnavailable);
}

TEST_P(Connections, CloseAfterTheQueueIsSent) {
  Pair pair(GetParam());
  const auto payload = random_bytes(8 << 20, 1);
  bool done = false;
  pair.client->send(FrameKind::kUpload, {}, payload, [&] { done = true; });
  pair.client->send(FrameKind::kGoodbye, {}, kNothing, nullptr);
  pair.client->close(10s);
  ASSERT_TRUE(
      pair.run_until([&] { return pair.at_client.closed > 0 && pair.at_server.closed > 0; }));
  EXPECT_TRUE(done);
  EXPECT_EQ(pair.at_client.closed, 1);
  EXPECT_EQ(pair.at_client.reason.code, ErrorCode::kCancelled);
  ASSERT_EQ(pair.at_server.frames.size(), 2U);
  EXPECT_EQ(pair.at_server.frames[0].payload, payload);
  EXPECT_EQ(pair.at_server.frames[1].kind, FrameKind::kGoodbye);
  EXPECT_EQ(pair.at_server.reason.code, ErrorCode::kUnavailable);
}

TEST_P(Connections, CloseWhenTheLingerIsOver) {
  Pair pair(GetParam());
  pair.server->pause_reading(true);
  const auto payload = random_bytes(30 << 20, 1);
  bool done = false;
  pair.client->send(FrameKind::kUpload, {}, payload, [&] { done = true; });
  const auto start = std::chrono::steady_clock::now();
  pair.client->close(50ms);
  ASSERT_TRUE(pair.run_until([&] { return pair.at_client.closed > 0; }));
  EXPECT_GE(std::chrono::steady_clock::now() - start, 50ms);
  EXPECT_TRUE(done);
  EXPECT_EQ(pair.at_client.reason.code, ErrorCode::kCancelled);
}

TEST_P(Connections, WakeUpFromALongWaitWhenTheLingerIsOver) {
  Pair pair(GetParam());
  pair.server->pause_reading(true);
  const auto payload = random_bytes(30 << 20, 1);
  pair.client->send(FrameKind::kUpload, {}, payload, nullptr);
  pair.run_until([] { return false; }, 20ms);
  pair.client->close(30ms);
  const auto start = std::chrono::steady_clock::now();
  while (pair.at_client.closed == 0) ASSERT_TRUE(pair.client_loop->run_once(10s));
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
}

TEST_P(Connections, DeliverNothingAfterClose) {
  Pair pair(GetParam());
  pair.at_server.on_frame = [&] { pair.server->close(1s); };
  for (int i = 0; i < 5; ++i) send_small(*pair.client);
  ASSERT_TRUE(pair.run_until([&] { return pair.at_server.closed > 0; }));
  EXPECT_EQ(pair.at_server.frames.size(), 1U);
  EXPECT_EQ(pair.at_server.reason.code, ErrorCode::kCancelled);
}

TEST_P(Connections, MayBeDestroyedInsideOfTheirCallbacks) {
  {
    Pair pair(GetParam());
    pair.at_server.on_frame = [&] { pair.server.reset(); };
    for (int i = 0; i < 5; ++i) send_small(*pair.client);
    ASSERT_TRUE(pair.run_until([&] { return pair.at_client.closed > 0; }));
    EXPECT_EQ(pair.at_server.frames.size(), 1U);
    EXPECT_EQ(pair.at_server.closed, 0);
  }
  {
    Pair pair(GetParam());
    pair.at_server.after_payload = [&] { pair.server.reset(); };
    const auto payload = random_bytes(3 << 20, 1);
    pair.client->send(FrameKind::kUpload, {}, payload, nullptr);
    ASSERT_TRUE(pair.run_until([&] { return pair.at_client.closed > 0; }));
    EXPECT_EQ(pair.at_server.closed, 0);
  }
  {
    Pair pair(GetParam());
    pair.at_server.after_closed = [&] { pair.server.reset(); };
    pair.client.reset();
    ASSERT_TRUE(pair.run_until([&] { return pair.at_server.closed > 0; }));
    pair.run_some();
  }
  {
    Pair pair(GetParam());
    const auto payload = random_bytes(1000, 1);
    int done = 0;
    for (int i = 0; i < 3; ++i) {
      pair.client->send(FrameKind::kUpload, {}, payload, [&] {
        ++done;
        pair.client.reset();
      });
    }
    ASSERT_TRUE(pair.run_until([&] { return pair.at_server.closed > 0; }));
    EXPECT_EQ(done, 3) << "each done runs, and before the destructor returns";
  }
}

TEST_P(Connections, MayBeDestroyedWhileTheyReceiveAPayload) {
  Pair pair(GetParam());
  const auto payload = random_bytes(20 << 20, 1);
  bool done = false;
  pair.client->send(FrameKind::kUpload, {}, payload, [&] { done = true; });
  ASSERT_TRUE(pair.run_until([&] { return !pair.at_server.frames.empty(); }));
  // Nothing may be written to the payload's place any more: ASan and the pattern would show it.
  pair.server.reset();
  std::fill(pair.at_server.frames[0].payload.begin(), pair.at_server.frames[0].payload.end(),
            std::byte{0x5a});
  for (int i = 0; i < 20; ++i) pair.run_some();
  const auto& place = pair.at_server.frames[0].payload;
  EXPECT_EQ(std::count(place.begin(), place.end(), std::byte{0x5a}), ptrdiff_t{20} << 20);
  pair.at_server.frames.clear();
  pair.run_until([&] { return pair.at_client.closed > 0; });
  EXPECT_TRUE(done);
}

TEST_P(Connections, MayBeDestroyedWhileTheySend) {
  Pair pair(GetParam());
  pair.server->pause_reading(true);
  auto payload = random_bytes(20 << 20, 1);
  int done = 0;
  for (int i = 0; i < 3; ++i) pair.client->send(FrameKind::kUpload, {}, payload, [&] { ++done; });
  pair.run_until([] { return false; }, 20ms);
  pair.client.reset();
  EXPECT_EQ(done, 3);
  payload = {};
  pair.run_until([] { return false; }, 5ms);
}

TEST_P(Connections, MayBeDestroyedBeforeAnythingIsSubmitted) {
  Pair pair(GetParam());
  bool done = false;
  const auto payload = random_bytes(1000, 1);
  pair.client->send(FrameKind::kUpload, {}, payload, [&] { done = true; });
  pair.client.reset();
  EXPECT_TRUE(done);
}

TEST_P(Connections, SendWhatWasQueuedBeforeTheyWereStarted) {
  Pair pair(GetParam());
  auto second = Pair::value(pair.client_loop->connect(pair.listener->address(), 5s));
  second->send(FrameKind::kHello, std::array<std::byte, 16>{}, kNothing, nullptr);
  auto accepted = pair.accept();
  Recorder at_accepted;
  pair.server_loop->start(*accepted, at_accepted);
  ASSERT_TRUE(pair.run_until([&] { return at_accepted.complete(1); }));
  EXPECT_EQ(at_accepted.frames[0].kind, FrameKind::kHello);
  EXPECT_FALSE(accepted->peer().empty());
}

TEST_P(Connections, ToNobodyAreAnErrorThatNamesTheAddress) {
  Pair pair(GetParam());
  const Address address = pair.listener->address();
  pair.listener.reset();
  const auto refused = pair.client_loop->connect(address, 1s);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(refused.error().message.find(address.text()), std::string::npos);
}

TEST_P(Connections, OnAnAddressInUseAreRefused) {
  Pair pair(GetParam());
  const auto second = pair.server_loop->listen(pair.listener->address(), [](auto) {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(second.error().message.find(pair.listener->address().text()), std::string::npos);
  const Address address = pair.listener->address();
  pair.listener.reset();
  EXPECT_TRUE(pair.server_loop->listen(address, [](auto) {})) << "the address is free again";
}

TEST_P(Connections, ManyAtOnceAllGetTheirAnswers) {
  Pair pair(GetParam());
  struct Peer {
    std::unique_ptr<Connection> connection;
    Recorder sink;
  };
  std::vector<std::unique_ptr<Peer>> clients;
  std::vector<std::unique_ptr<Peer>> servers;
  for (int i = 0; i < 300; ++i) {
    auto& client = *clients.emplace_back(std::make_unique<Peer>());
    client.connection = Pair::value(pair.client_loop->connect(pair.listener->address(), 5s));
    pair.client_loop->start(*client.connection, client.sink);
    auto& server = *servers.emplace_back(std::make_unique<Peer>());
    server.connection = pair.accept();
    server.sink.on_frame = [&server] { send_small(*server.connection); };
    pair.server_loop->start(*server.connection, server.sink);
  }
  for (int round = 0; round < 3; ++round) {
    for (const auto& client : clients) send_small(*client->connection);
  }
  for (const auto& client : clients) {
    ASSERT_TRUE(pair.run_until([&] { return client->sink.complete(3); }));
  }
}

}  // namespace
}  // namespace djinn::transport
