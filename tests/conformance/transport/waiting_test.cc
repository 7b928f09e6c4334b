// SPDX-License-Identifier: Apache-2.0
// What every loop promises about waiting: how long, for what, and at what price.
#include <pthread.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <thread>

#include "tests/conformance/transport/pair.h"

namespace djinn::transport {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Waiting = testing::TestWithParam<Kind>;
INSTANTIATE_TEST_SUITE_P(Transports, Waiting, testing::ValuesIn(all_kinds()), kind_name);

using WaitingOnOneThread = testing::TestWithParam<Kind>;
INSTANTIATE_TEST_SUITE_P(Transports, WaitingOnOneThread,
                         testing::ValuesIn(kinds_named({"uring_tcp", "uring_unix"})), kind_name);

using WaitingOnManyThreads = testing::TestWithParam<Kind>;
INSTANTIATE_TEST_SUITE_P(
    Transports, WaitingOnManyThreads,
    testing::ValuesIn(kinds_named({"uring_shared_tcp", "poll_tcp", "poll_unix"})), kind_name);

constexpr std::span<const std::byte> kNothing{};

TEST_P(Waiting, EndsAtItsTimeout) {
  Pair pair(GetParam());
  pair.run_until([] { return false; }, 5ms);
  for (const auto timeout : {0ms, 1ms, 30ms, 10ms, 30ms}) {
    const auto start = Clock::now();
    EXPECT_EQ(Pair::value(pair.client_loop->run_once(timeout)), 0U);
    EXPECT_GE(Clock::now() - start, timeout);
    EXPECT_LT(Clock::now() - start, timeout + 500ms);
  }
}

TEST_P(Waiting, IsNotMistakenForASignalWhenItsTimerFires) {
  Pair pair(GetParam());
  pair.run_until([] { return false; }, 5ms);
  for (int i = 0; i < 100; ++i) {
    if (i % 2 == 0) pair.client->send(FrameKind::kStep, {}, kNothing, nullptr);
    const auto waited = pair.client_loop->run_once(i % 3 == 0 ? 3ms : 2ms);
    ASSERT_TRUE(waited) << waited.error().message;
  }
}

// Its timer of before has fired by then, which is not the end of this wait.
TEST_P(Waiting, EndsAtItsTimeoutThoughAnEarlierOneRanOutWhileNobodyWaited) {
  Pair pair(GetParam());
  pair.run_until([] { return false; }, 5ms);
  for (int i = 0; i < 3; ++i) {
    pair.client_loop->wake();
    ASSERT_EQ(Pair::value(pair.client_loop->run_once(30ms)), 0U);
    std::this_thread::sleep_for(60ms);
    std::atomic<bool> ended = false;
    std::thread rescue([&] {
      for (int ms = 0; ms < 5000 && !ended; ++ms) std::this_thread::sleep_for(1ms);
      if (!ended) pair.client_loop->wake();
    });
    const auto start = Clock::now();
    EXPECT_EQ(Pair::value(pair.client_loop->run_once(40ms)), 0U);
    const auto waited = Clock::now() - start;
    ended = true;
    rescue.join();
    EXPECT_GE(waited, 40ms);
    EXPECT_LT(waited, 4s);
  }
}

TEST_P(Waiting, EndsWhenAnotherThreadWakesTheLoop) {
  Pair pair(GetParam());
  pair.run_until([] { return false; }, 5ms);
  std::thread waker([&] {
    std::this_thread::sleep_for(20ms);
    pair.client_loop->wake();
  });
  const auto start = Clock::now();
  EXPECT_EQ(Pair::value(pair.client_loop->run_once(-1ns)), 0U);
  EXPECT_GE(Clock::now() - start, 15ms);
  waker.join();
}

TEST_P(Waiting, EndsAtOnceWhenTheLoopWasWokenBefore) {
  Pair pair(GetParam());
  pair.run_until([] { return false; }, 5ms);
  pair.client_loop->wake();
  const auto start = Clock::now();
  EXPECT_EQ(Pair::value(pair.client_loop->run_once(10s)), 0U);
  EXPECT_LT(Clock::now() - start, 5s);
  EXPECT_EQ(Pair::value(pair.client_loop->run_once(20ms)), 0U);
  EXPECT_GE(Clock::now() - start, 20ms) << "one wake ends one wait";
}

TEST_P(Waiting, IsCancelledByASignal) {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  struct sigaction before {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  Pair pair(GetParam());
  pair.run_until([] { return false; }, 5ms);
  const pthread_t waiter = ::pthread_self();
  for (const bool with_submission : {false, true}) {
    if (with_submission) pair.client->send(FrameKind::kStep, {}, kNothing, nullptr);
    std::atomic<bool> over = false;
    std::thread killer([&] {
      while (!over) {
        std::this_thread::sleep_for(20ms);
        if (!over) ::pthread_kill(waiter, SIGUSR1);
      }
    });
    Result<size_t> result = size_t{0};
    const auto start = Clock::now();
    while (result && Clock::now() - start < 5s) result = pair.client_loop->run_once(10s);
    over = true;
    killer.join();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
  }
  ::sigaction(SIGUSR1, &before, nullptr);
  pair.run_until([&] { return pair.at_server.complete(1); });
}

TEST_P(Waiting, EndsWhenWhatWasSentIsDone) {
  Pair pair(GetParam());
  pair.run_until([] { return false; }, 5ms);
  const auto payload = random_bytes(1000, 1);
  bool done = false;
  pair.client->send(FrameKind::kUpload, {}, payload, [&] { done = true; });
  for (int i = 0; i < 20 && !done; ++i) {
    (void)Pair::value(pair.client_loop->run_once(
        GetParam().name.find("zero") == std::string::npos && GetParam().socket ? 10s : 1ms));
    if (!done) pair.run_some();
  }
  EXPECT_TRUE(done);
}

// The promise that the whole system's latency stands on.
TEST_P(WaitingOnOneThread, ForAReplyCostsOneSystemCall) {
  const Kind& kind = GetParam();
  constexpr size_t kRounds = 500;
  std::atomic<bool> stop = false;
  uint64_t server_enters = 0;
  auto server = Pair::value(kind.make());
  Recorder at_server;
  std::unique_ptr<Connection> accepted;
  at_server.on_frame = [&] {
    accepted->send(FrameKind::kAck, {}, std::array<std::byte, 4>{}, nullptr);
  };
  auto listener = Pair::value(server->listen(fresh_address(kind.address), [&](auto connection) {
    accepted = std::move(connection);
    server->start(*accepted, at_server);
  }));
  const Address address = listener->address();
  std::thread thread([&] {
    while (at_server.frames.empty()) (void)Pair::value(server->run_once(10s));
    const uint64_t before = server->stats().enters;
    while (at_server.frames.size() < kRounds + 1) (void)Pair::value(server->run_once(10s));
    server_enters = server->stats().enters - before;
    while (!stop) (void)Pair::value(server->run_once(10s));
  });
  auto loop = Pair::value(kind.make());
  Recorder sink;
  auto connection = Pair::value(loop->connect(address, 5s));
  loop->start(*connection, sink);
  const auto round = [&] {
    const size_t wanted = sink.frames.size() + 1;
    connection->send(FrameKind::kStep, std::array<std::byte, 64>{}, kNothing, nullptr);
    while (!sink.complete(wanted)) (void)Pair::value(loop->run_once(10s));
  };
  round();
  const uint64_t before = loop->stats().enters;
  for (size_t i = 0; i < kRounds; ++i) round();
  EXPECT_EQ(loop->stats().enters - before, kRounds);
  stop = true;
  server->wake();
  thread.join();
  EXPECT_LE(server_enters, kRounds + 2);
}

// The client's case: whoever waits drives the loop, one thread after the other.
TEST_P(WaitingOnManyThreads, MovesFromOneToTheNext) {
  Pair pair(GetParam());
  pair.at_server.on_frame = [&] { pair.server->send(FrameKind::kAck, {}, kNothing, nullptr); };
  const auto payload = random_bytes(3 << 20, 1);
  for (size_t i = 1; i <= 20; ++i) {
    std::thread thread([&] {
      pair.client->send(FrameKind::kUpload, {}, payload, nullptr);
      EXPECT_TRUE(pair.run_until([&] { return pair.at_client.complete(i); }));
    });
    thread.join();  // It had asked for the next receive, which ends with it.
  }
  EXPECT_EQ(pair.at_client.closed, 0);
  EXPECT_EQ(pair.at_server.payloads, 20U);
}

}  // namespace
}  // namespace djinn::transport
