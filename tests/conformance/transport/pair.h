// SPDX-License-Identifier: Apache-2.0
// Pair: two connected ends of one kind of transport, and a sink that writes down what it hears.
//
// A new transport adds one entry to all_kinds(). Threading: one thread drives both ends in turn.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "serialization/transport/connection.h"
#include "serialization/transport/loopback.h"
#include "tests/support/seed.h"

namespace djinn::transport {

struct Kind {
  std::string name;
  std::function<Result<std::unique_ptr<Loop>>()> make;
  Address::Kind address = Address::Kind::kTcp;
  bool one_loop = false;  // Both ends live in the same loop.
  bool socket = true;     // Raw bytes can be sent to it.
};
// NOLINTNEXTLINE(readability-identifier-naming): gtest looks for this name.
inline void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

inline std::vector<Kind> socket_kinds() {
  const auto loop = [](LoopOptions options) { return [options] { return make_loop(options); }; };
  constexpr auto kUnix = Address::Kind::kUnix;
  return {
      {.name = "uring_tcp", .make = loop({.single_thread = true})},
      {.name = "uring_unix", .make = loop({.single_thread = true}), .address = kUnix},
      {.name = "uring_shared_tcp", .make = loop({})},
      {.name = "uring_zero_copy_tcp", .make = loop({.single_thread = true, .zero_copy_bytes = 1})},
      {.name = "uring_zero_copy_unix", .make = loop({.zero_copy_bytes = 1}), .address = kUnix},
      {.name = "poll_tcp", .make = loop({.force_poll = true})},
      {.name = "poll_unix", .make = loop({.force_poll = true}), .address = kUnix},
  };
}

inline std::vector<Kind> all_kinds() {
  std::vector<Kind> kinds = socket_kinds();
  kinds.push_back({.name = "loopback",
                   .make = [] { return make_loopback({}); },
                   .one_loop = true,
                   .socket = false});
  kinds.push_back({.name = "torn",
                   .make = [] { return make_loopback({.torn = true, .seed = test_seed()}); },
                   .one_loop = true,
                   .socket = false});
  return kinds;
}

inline std::vector<Kind> kinds_named(const std::vector<std::string>& names) {
  std::vector<Kind> kinds = all_kinds();
  std::erase_if(kinds, [&](const Kind& kind) {
    return std::find(names.begin(), names.end(), kind.name) == names.end();
  });
  return kinds;
}

inline std::string kind_name(const testing::TestParamInfo<Kind>& parameter) {
  return parameter.param.name;
}

inline Address fresh_address(Address::Kind kind) {
  static std::atomic<int> next = 0;
  if (kind == Address::Kind::kTcp) return {.kind = kind, .host = "127.0.0.1", .port = 0};
  const std::string path = testing::TempDir() + "djinn-" + std::to_string(::getpid()) + "-" +
                           std::to_string(next++) + ".sock";
  return {.kind = kind, .host = path, .port = 0};
}

inline std::vector<std::byte> random_bytes(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; i += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, std::min(sizeof word, count - i));
  }
  return bytes;
}

struct RecordedFrame {
  FrameKind kind;
  std::vector<std::byte> message;
  std::vector<std::byte> payload;
};

// Keeps every frame; the hooks may do more.
class Recorder final : public FrameSink {
 public:
  Result<std::span<std::byte>> on_message(const FrameHeader& header, Bytes message) override {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(message.data()) % 8, 0U);
    EXPECT_EQ(message.size(), header.message_bytes);
    EXPECT_FALSE(in_payload_) << "the payload before is not complete";
    EXPECT_EQ(closed, 0);
    frames.push_back({header.kind, {message.begin(), message.end()}, {}});
    if (on_frame) on_frame();
    if (refuse) return Error{ErrorCode::kDenied, "refused by the test"};
    if (discard) return std::span<std::byte>{};
    in_payload_ = header.payload_bytes > 0;
    frames.back().payload.resize(header.payload_bytes);
    return std::span(frames.back().payload);
  }
  void on_payload() override {
    EXPECT_TRUE(in_payload_);
    in_payload_ = false;
    ++payloads;
    if (after_payload) after_payload();
  }
  void on_closed(const Error& error) override {
    ++closed;
    reason = error;
    if (after_closed) after_closed();
  }
  [[nodiscard]] bool complete(size_t count) const { return frames.size() >= count && !in_payload_; }

  std::vector<RecordedFrame> frames;
  size_t payloads = 0;
  int closed = 0;
  Error reason{ErrorCode::kFailed, "not closed"};
  bool discard = false;
  bool refuse = false;
  std::function<void()> on_frame;
  std::function<void()> after_payload;
  std::function<void()> after_closed;

 private:
  bool in_payload_ = false;
};

class Pair {
 public:
  explicit Pair(const Kind& kind) : Pair(kind, kind) {}
  Pair(const Kind& server_kind, const Kind& client_kind) {
    server_loop = value(server_kind.make());
    if (!server_kind.one_loop) own_client_loop_ = value(client_kind.make());
    client_loop = own_client_loop_ ? own_client_loop_.get() : server_loop.get();
    listener = value(server_loop->listen(fresh_address(server_kind.address), [this](auto accepted) {
      accepted_.push_back(std::move(accepted));
    }));
    client = value(client_loop->connect(listener->address(), std::chrono::seconds(5)));
    client_loop->start(*client, at_client);
    server = accept();
    server_loop->start(*server, at_server);
  }

  // The next connection that arrives at the listener.
  std::unique_ptr<Connection> accept() {
    EXPECT_TRUE(run_until([this] { return !accepted_.empty(); }));
    std::unique_ptr<Connection> result = std::move(accepted_.front());
    accepted_.erase(accepted_.begin());
    return result;
  }

  // Drives both ends until it is so; false after ten seconds.
  bool run_until(const std::function<bool()>& done,
                 std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      run_some();
    }
    return true;
  }
  void run_some() {
    const size_t calls = value(client_loop->run_once(std::chrono::nanoseconds(0)));
    const auto timeout = std::chrono::microseconds(calls > 0 ? 0 : 200);
    if (own_client_loop_) (void)value(server_loop->run_once(timeout));
  }

  template <typename T>
  static T value(Result<T> result) {
    if (!result) {
      ADD_FAILURE() << result.error().message;
      std::abort();
    }
    return std::move(result).value();
  }

  // Destroyed last to first: connections before their sinks and loops.
  std::unique_ptr<Loop> server_loop;
  Loop* client_loop = nullptr;
  Recorder at_server;
  Recorder at_client;
  std::unique_ptr<Loop::Listener> listener;
  std::unique_ptr<Connection> server;
  std::unique_ptr<Connection> client;

 private:
  std::unique_ptr<Loop> own_client_loop_;
  std::vector<std::unique_ptr<Connection>> accepted_;

 public:
  ~Pair() {
    client.reset();
    server.reset();
    accepted_.clear();
    listener.reset();
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
};

}  // namespace djinn::transport
