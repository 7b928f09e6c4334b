// SPDX-License-Identifier: Apache-2.0
// What every transport promises about frames: they arrive whole, in order and where they are
// wanted.
#include <algorithm>
#include <array>
#include <cstring>

#include "serialization/base/limits.h"
#include "tests/conformance/transport/pair.h"

namespace djinn::transport {
namespace {

using Frames = testing::TestWithParam<Kind>;
INSTANTIATE_TEST_SUITE_P(Transports, Frames, testing::ValuesIn(all_kinds()), kind_name);

constexpr std::span<const std::byte> kNothing{};

TEST_P(Frames, ArriveWithMessagesAndPayloadsOfEverySize) {
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(test_seed()));
  Pair pair(GetParam());
  const std::vector<size_t> message_sizes = {0,     8,     256,   264,   16352,  16360,
                                             16368, 16376, 16384, 16392, 100'000};
  const std::vector<size_t> payload_sizes = {0, 1, 7, 8, 255, 257, 16383, 16385, 70'001};
  for (const size_t message_size : message_sizes) {
    for (const size_t payload_size : payload_sizes) {
      const auto message = random_bytes(message_size, test_seed() + message_size);
      const auto payload = random_bytes(payload_size, test_seed() + payload_size);
      bool sent = false;
      const size_t before = pair.at_server.frames.size();
      pair.client->send(FrameKind::kUpload, message, payload, [&] { sent = true; });
      ASSERT_TRUE(pair.run_until([&] { return sent && pair.at_server.complete(before + 1); }))
          << message_size << " + " << payload_size;
      EXPECT_EQ(pair.at_server.frames.back().kind, FrameKind::kUpload);
      EXPECT_EQ(pair.at_server.frames.back().message, message);
      EXPECT_EQ(pair.at_server.frames.back().payload, payload);
      pair.at_server.frames.clear();
    }
  }
  EXPECT_EQ(pair.at_server.closed, 0);
}

TEST_P(Frames, KeepTheirOrderInBothDirections) {
  const uint64_t seed = test_seed();
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(seed));
  Pair pair(GetParam());
  std::mt19937_64 random(seed);
  struct Sent {
    std::vector<std::byte> message;
    std::vector<std::byte> payload;
  };
  std::array<std::vector<Sent>, 2> sent;
  size_t done = 0;
  constexpr size_t kFrames = 60;
  for (auto& frames : sent) {
    for (size_t i = 0; i < kFrames; ++i) {
      const size_t words = random() % 3 == 0 ? random() % 5000 : random() % 20;
      const size_t bytes = random() % 3 == 0 ? random() % 300'000 : random() % 40;
      frames.push_back({random_bytes(words * 8, random()), random_bytes(bytes, random())});
    }
  }
  for (size_t i = 0; i < kFrames; ++i) {
    pair.client->send(FrameKind::kJob, sent[0][i].message, sent[0][i].payload, [&] { ++done; });
    pair.server->send(FrameKind::kFetched, sent[1][i].message, sent[1][i].payload, [&] { ++done; });
    if (random() % 4 == 0) pair.run_some();
  }
  ASSERT_TRUE(pair.run_until([&] {
    return done == 2 * kFrames && pair.at_server.complete(kFrames) &&
           pair.at_client.complete(kFrames);
  }));
  for (size_t i = 0; i < kFrames; ++i) {
    EXPECT_EQ(pair.at_server.frames[i].message, sent[0][i].message);
    EXPECT_EQ(pair.at_server.frames[i].payload, sent[0][i].payload);
    EXPECT_EQ(pair.at_client.frames[i].message, sent[1][i].message);
    EXPECT_EQ(pair.at_client.frames[i].payload, sent[1][i].payload);
  }
  EXPECT_EQ(pair.client->unsent_bytes(), 0U);
}

TEST_P(Frames, AreCopiedWhenTheyAreSmall) {
  Pair pair(GetParam());
  for (uint64_t i = 0; i < 1000; ++i) {
    std::array<uint64_t, 2> message = {i, ~i};
    std::array<std::byte, 3> payload = {std::byte(i), std::byte(i + 1), std::byte(i + 2)};
    pair.client->send(FrameKind::kStep, std::as_bytes(std::span(message)), payload, nullptr);
    message = {};
    payload = {};
  }
  ASSERT_TRUE(pair.run_until([&] { return pair.at_server.complete(1000); }));
  for (uint64_t i = 0; i < 1000; ++i) {
    const RecordedFrame& frame = pair.at_server.frames[i];
    std::array<uint64_t, 2> message{};
    ASSERT_EQ(frame.message.size(), sizeof message);
    std::memcpy(message.data(), frame.message.data(), sizeof message);
    EXPECT_EQ(message[0], i);
    EXPECT_EQ(message[1], ~i);
    EXPECT_EQ(frame.payload[2], std::byte(i + 2));
  }
}

TEST_P(Frames, TakeFewSystemCallsWhenManySmallOnesAreQueued) {
  if (!GetParam().socket) GTEST_SKIP() << "no system calls to save";
  Pair pair(GetParam());
  const std::array<std::byte, 32> message{};
  const uint64_t before = pair.client_loop->stats().enters;
  for (int i = 0; i < 320; ++i) pair.client->send(FrameKind::kStep, message, kNothing, nullptr);
  ASSERT_TRUE(pair.run_until([&] { return pair.at_server.complete(320); }));
  EXPECT_LE(pair.client_loop->stats().enters - before, 40U);
  EXPECT_EQ(pair.client_loop->stats().frames_sent, 320U);
  EXPECT_EQ(pair.client_loop->stats().bytes_sent, 320U * (16 + 32));
  EXPECT_EQ(pair.server_loop->stats().bytes_received, 320U * (16 + 32));
}

TEST_P(Frames, PutALargePayloadWhereItIsWantedWithoutABufferBetween) {
  Pair pair(GetParam());
  constexpr size_t kFrames = 4;
  const auto payload = random_bytes((5 << 20) + 3, 7);
  const std::array<std::byte, 64> message{};
  size_t done = 0;
  for (size_t i = 0; i < kFrames; ++i) {
    pair.client->send(FrameKind::kUpload, message, payload, [&] { ++done; });
  }
  ASSERT_TRUE(pair.run_until([&] { return done == kFrames && pair.at_server.complete(kFrames); }));
  for (const RecordedFrame& frame : pair.at_server.frames) EXPECT_EQ(frame.payload, payload);
  EXPECT_LE(pair.client_loop->stats().payload_bytes_copied +
                (pair.client_loop == pair.server_loop.get()
                     ? 0
                     : pair.server_loop->stats().payload_bytes_copied),
            kFrames * kReceiveBufferBytes);
}

TEST_P(Frames, MayBeAsLargeAsTheLimitOfAMessage) {
  Pair pair(GetParam());
  const auto message = random_bytes(kMessageBytesMax, 3);
  bool sent = false;
  pair.client->send(FrameKind::kJob, message, kNothing, [&] { sent = true; });
  ASSERT_TRUE(pair.run_until([&] { return sent && pair.at_server.complete(1); }));
  EXPECT_TRUE(pair.at_server.frames[0].message == message);
}

TEST_P(Frames, AreDiscardedWhenNobodyWantsTheirPayload) {
  Pair pair(GetParam());
  pair.at_server.discard = true;
  const auto payload = random_bytes(300'001, 5);
  size_t done = 0;
  for (int i = 0; i < 3; ++i) pair.client->send(FrameKind::kUpload, {}, payload, [&] { ++done; });
  pair.client->send(FrameKind::kStep, {}, kNothing, nullptr);
  ASSERT_TRUE(pair.run_until([&] { return done == 3 && pair.at_server.complete(4); }));
  EXPECT_EQ(pair.at_server.payloads, 0U);
  EXPECT_EQ(pair.at_server.frames[3].kind, FrameKind::kStep);
}

TEST_P(Frames, WaitInTheKernelAndInTheQueueWhileReadingIsPaused) {
  Pair pair(GetParam());
  pair.server->pause_reading(true);
  const auto payload = random_bytes(1 << 20, 11);
  constexpr size_t kFrames = 40;
  size_t done = 0;
  for (size_t i = 0; i < kFrames; ++i) {
    pair.client->send(FrameKind::kUpload, {}, payload, [&] { ++done; });
  }
  pair.run_until([] { return false; }, std::chrono::milliseconds(100));
  EXPECT_EQ(pair.at_server.frames.size(), 0U);
  EXPECT_GT(pair.client->unsent_bytes(), uint64_t{8} << 20);
  EXPECT_LT(done, kFrames);
  pair.server->pause_reading(false);
  ASSERT_TRUE(pair.run_until([&] { return done == kFrames && pair.at_server.complete(kFrames); }));
  EXPECT_EQ(pair.client->unsent_bytes(), 0U);
  EXPECT_EQ(pair.at_server.frames[kFrames - 1].payload, payload);
}

TEST_P(Frames, ArriveAsTheyWereThoughTheirMemoryIsUsedAgainOnceDoneHasRun) {
  Pair pair(GetParam());
  pair.server->pause_reading(true);  // So that much is taken and little is delivered.
  const auto original = random_bytes(512 << 10, 13);
  std::vector<std::vector<std::byte>> payloads(32, original);
  size_t done = 0;
  for (auto& payload : payloads) {
    pair.client->send(FrameKind::kUpload, {}, payload, [&] {
      std::ranges::fill(payload, std::byte{0xee});
      ++done;
    });
  }
  pair.run_until([] { return false; }, std::chrono::milliseconds(50));
  pair.server->pause_reading(false);
  ASSERT_TRUE(pair.run_until(
      [&] { return done == payloads.size() && pair.at_server.complete(payloads.size()); }));
  for (const RecordedFrame& frame : pair.at_server.frames) {
    EXPECT_TRUE(frame.payload == original);
  }
}

TEST_P(Frames, StopAfterTheOneThatPauses) {
  Pair pair(GetParam());
  pair.at_server.on_frame = [&] { pair.server->pause_reading(true); };
  const std::array<std::byte, 5> payload{};
  for (int i = 0; i < 5; ++i) pair.client->send(FrameKind::kStep, {}, payload, nullptr);
  for (size_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(
        pair.run_until([&] { return pair.at_server.complete(i) && pair.at_server.payloads == i; }));
    pair.run_until([] { return false; }, std::chrono::milliseconds(5));
    EXPECT_EQ(pair.at_server.frames.size(), i);
    pair.server->pause_reading(false);
  }
}

TEST_P(Frames, EchoFromInsideTheCallback) {
  Pair pair(GetParam());
  pair.at_server.on_frame = [&] {
    const std::vector<std::byte>& message = pair.at_server.frames.back().message;
    pair.server->send(FrameKind::kAck, message, kNothing, nullptr);
  };
  for (int i = 0; i < 200; ++i) {
    const std::array<std::byte, 8> message = {std::byte(i)};
    pair.client->send(FrameKind::kStep, message, kNothing, nullptr);
    ASSERT_TRUE(
        pair.run_until([&] { return pair.at_client.complete(static_cast<size_t>(i) + 1); }));
    EXPECT_EQ(pair.at_client.frames.back().message[0], std::byte(i));
  }
}

}  // namespace
}  // namespace djinn::transport
