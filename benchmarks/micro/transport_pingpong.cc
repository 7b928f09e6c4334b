// SPDX-License-Identifier: Apache-2.0
// transport_pingpong: what a Loop costs beside blocking sockets that do nothing else.
//
// Two threads over loopback TCP. Round trips of a small frame (header and one message, 64 bytes in
// all) against send(2) and recv(2) of 64 bytes; then one large payload against the same bytes
// through a blocking send/recv loop. Both arms are interleaved in the same run, and the ratio of
// each pair of rounds is what is reported: on a shared machine, times of different minutes cannot
// be compared. The third arm is the same loop with zero-copy sends.
//
//   transport_pingpong [--poll] [--shared] [--upload-mib=N | --upload-kib=N] [--rounds=N]

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "benchmarks/harness/raw_peer.h"
#include "benchmarks/harness/rounds.h"
#include "benchmarks/harness/statistics.h"
#include "serialization/transport/connection.h"

namespace djinn::transport {
namespace {

using benchmarks::Clock;
using benchmarks::kPingBytes;
using benchmarks::median;
using benchmarks::RawPeer;

constexpr size_t kMessageBytes = 48;
static_assert(kPingBytes == kFrameHeaderBytes + kMessageBytes);
constexpr int kPingsPerRound = 4000;

struct Flags {
  LoopOptions loop{.single_thread = true, .zero_copy_bytes = 0, .force_poll = false};
  size_t upload_bytes = size_t{500} << 20;
  int rounds = 9;
};

template <typename T>
T check(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::_Exit(1);
  }
  return std::move(result).value();
}

double us_since(Clock::time_point start) { return benchmarks::seconds_since(start) * 1e6; }

// -- loops

struct Echo final : FrameSink {
  std::unique_ptr<Connection> connection;
  std::span<std::byte> destination;
  std::array<std::byte, kMessageBytes> reply{};

  Result<std::span<std::byte>> on_message(const FrameHeader& header, Bytes /*message*/) override {
    if (header.payload_bytes > 0) return destination;
    connection->send(FrameKind::kAck, reply, {}, nullptr);
    return std::span<std::byte>{};
  }
  void on_payload() override { connection->send(FrameKind::kAck, reply, {}, nullptr); }
  void on_closed(const Error& /*reason*/) override {}
};

struct Count final : FrameSink {
  int frames = 0;
  Result<std::span<std::byte>> on_message(const FrameHeader& /*header*/, Bytes /*m*/) override {
    ++frames;
    return std::span<std::byte>{};
  }
  void on_payload() override {}
  void on_closed(const Error& reason) override {
    std::fprintf(stderr, "%s\n", reason.message.c_str());
    std::_Exit(1);
  }
};

class LoopPeer {
 public:
  LoopPeer(const LoopOptions& options, std::span<std::byte> destination) {
    std::atomic<int> port = 0;
    thread_ =
        std::thread([this, options, destination, &port] { serve(options, destination, port); });
    port.wait(0);
    loop_ = check(make_loop(options));
    Address address{.kind = Address::Kind::kTcp, .host = "127.0.0.1"};
    address.port = static_cast<uint16_t>(port.load());
    connection_ = check(loop_->connect(address, std::chrono::seconds(5)));
    loop_->start(*connection_, replies_);
  }
  ~LoopPeer() {
    stop_ = true;
    server_->wake();
    thread_.join();
  }
  LoopPeer(const LoopPeer&) = delete;
  LoopPeer& operator=(const LoopPeer&) = delete;

  void pings(std::vector<double>& times) {
    const std::array<std::byte, kMessageBytes> ping{};
    for (int i = 0; i < kPingsPerRound; ++i) {
      const auto start = Clock::now();
      connection_->send(FrameKind::kStep, ping, {}, nullptr);
      wait_for_reply();
      times.push_back(us_since(start));
    }
  }

  double upload(std::span<const std::byte> bytes) {
    const auto start = Clock::now();
    bool sent = false;
    connection_->send(FrameKind::kUpload, std::array<std::byte, kMessageBytes>{}, bytes,
                      [&] { sent = true; });
    wait_for_reply();
    while (!sent) check(loop_->run_once(std::chrono::seconds(5)));
    return us_since(start);
  }
  [[nodiscard]] const Loop& loop() const { return *loop_; }

 private:
  void wait_for_reply() {
    const int wanted = replies_.frames + 1;
    while (replies_.frames < wanted) check(loop_->run_once(std::chrono::seconds(5)));
  }

  void serve(const LoopOptions& options, std::span<std::byte> destination, std::atomic<int>& port) {
    server_ = check(make_loop(options));
    Echo echo;
    echo.destination = destination;
    Address address{.kind = Address::Kind::kTcp, .host = "127.0.0.1", .port = 0};
    auto listener = check(server_->listen(address, [&](std::unique_ptr<Connection> connection) {
      echo.connection = std::move(connection);
      server_->start(*echo.connection, echo);
    }));
    port = listener->address().port;
    port.notify_all();
    while (!stop_) (void)server_->run_once(std::chrono::seconds(5));
  }

  std::atomic<bool> stop_ = false;
  std::unique_ptr<Loop> server_;
  std::thread thread_;
  std::unique_ptr<Loop> loop_;
  Count replies_;
  std::unique_ptr<Connection> connection_;
};

Flags parse(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const std::string value(arg.substr(std::min(arg.size(), arg.find('=') + 1)));
    if (arg == "--poll") flags.loop.force_poll = true;
    if (arg == "--shared") flags.loop.single_thread = false;
    if (arg.starts_with("--upload-mib=")) flags.upload_bytes = std::stoull(value) << 20;
    if (arg.starts_with("--upload-kib=")) flags.upload_bytes = std::stoull(value) << 10;
    if (arg.starts_with("--rounds=")) flags.rounds = std::stoi(value);
  }
  return flags;
}

// One round of all arms, one after the other.
struct Round {
  double raw_ping_us = 0;
  double ping_us = 0;
  double enters_per_ping = 0;
  double raw_upload_us = 0;
  double upload_us = 0;
  double zero_copy_us = 0;
};

Round run_round(RawPeer& raw, LoopPeer& ours, LoopPeer& zero_copy,
                std::span<const std::byte> source) {
  Round round;
  std::vector<double> times;
  times.reserve(kPingsPerRound);
  for (int i = 0; i < kPingsPerRound; ++i) times.push_back(raw.ping() * 1e6);
  round.raw_ping_us = median(std::exchange(times, {}));
  const uint64_t enters = ours.loop().stats().enters;
  ours.pings(times);
  round.ping_us = median(times);
  round.enters_per_ping = static_cast<double>(ours.loop().stats().enters - enters) / kPingsPerRound;
  // Small uploads are repeated until a round takes long enough to be timed.
  const size_t repeats = std::max<size_t>(1, (size_t{64} << 20) / source.size());
  for (size_t i = 0; i < repeats; ++i) {
    round.raw_upload_us += raw.stream(source) * 1e6;
    round.upload_us += ours.upload(source);
    round.zero_copy_us += zero_copy.upload(source);
  }
  return round;
}

int run(const Flags& flags) {
  std::vector<std::byte> source(flags.upload_bytes, std::byte{7});
  std::vector<std::byte> destination(flags.upload_bytes, std::byte{1});
  LoopOptions plain = flags.loop;
  plain.zero_copy_bytes = std::numeric_limits<uint64_t>::max();
  LoopOptions always_zero_copy = flags.loop;
  always_zero_copy.zero_copy_bytes = 1;
  RawPeer raw(source.size());
  LoopPeer ours(plain, destination);
  LoopPeer zero_copy(always_zero_copy, destination);
  std::vector<double> ping_ratios;
  std::vector<double> upload_ratios;
  std::vector<double> zero_copy_ratios;
  for (int i = 0; i < flags.rounds; ++i) {
    const Round round = run_round(raw, ours, zero_copy, source);
    ping_ratios.push_back(round.ping_us / round.raw_ping_us);
    upload_ratios.push_back(round.raw_upload_us / round.upload_us);
    zero_copy_ratios.push_back(round.upload_us / round.zero_copy_us);
    std::printf(
        "round %d: ping p50 raw %.2f us, %s %.2f us (x%.3f), %.3f enters per ping; upload / raw "
        "x%.3f, zero copy / plain x%.3f\n",
        i, round.raw_ping_us, ours.loop().kind(), round.ping_us, ping_ratios.back(),
        round.enters_per_ping, upload_ratios.back(), zero_copy_ratios.back());
  }
  std::printf(
      "median of %d rounds, uploads of %zu KiB: ping p50 / raw %.3f (lower is better), upload "
      "throughput / raw %.3f, zero copy / plain %.3f (higher is better)\n",
      flags.rounds, flags.upload_bytes >> 10, median(ping_ratios), median(upload_ratios),
      median(zero_copy_ratios));
  return 0;
}

}  // namespace
}  // namespace djinn::transport

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): then it ends, loudly.
  return djinn::transport::run(djinn::transport::parse(argc, argv));
}
