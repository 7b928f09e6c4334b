// SPDX-License-Identifier: Apache-2.0
// What a step costs: system calls of the I/O thread, and the time beside a bare ping-pong.
//
// The counts are asserted. The times are printed as a ratio and bounded loosely, as tests run on
// busy machines; bench_remote measures them properly.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <thread>

#include <gtest/gtest.h>

#include "tests/support/test_server.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;
using graph::UploadForm;
using std::chrono::steady_clock;

double microseconds(steady_clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

// Echoes 64 bytes over loopback TCP, blocking on both ends.
class PingPong {
 public:
  PingPong() {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof at;
    if (::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) std::abort();
    if (::listen(listener, 1) != 0) std::abort();
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &length);
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) std::abort();
    peer_ = ::accept(listener, nullptr, nullptr);
    ::close(listener);
    const int one = 1;
    for (const int fd : {fd_, peer_}) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    thread_ = std::thread([this] {
      std::array<char, 64> bytes{};
      while (::recv(peer_, bytes.data(), bytes.size(), MSG_WAITALL) == 64) {
        if (::send(peer_, bytes.data(), bytes.size(), MSG_NOSIGNAL) != 64) break;
      }
    });
  }
  ~PingPong() {
    ::close(fd_);
    thread_.join();
    ::close(peer_);
  }
  PingPong(const PingPong&) = delete;
  PingPong& operator=(const PingPong&) = delete;

  double once() {
    std::array<char, 64> bytes{};
    const auto begin = steady_clock::now();
    if (::send(fd_, bytes.data(), bytes.size(), 0) != 64) std::abort();
    if (::recv(fd_, bytes.data(), bytes.size(), MSG_WAITALL) != 64) std::abort();
    return microseconds(steady_clock::now() - begin);
  }

 private:
  int fd_ = -1;
  int peer_ = -1;
  std::thread thread_;
};

struct RoundTrip : ::testing::Test {
  RoundTrip() {
    EXPECT_TRUE(client.hello());
    tensor = make_tensor(client, 2);
    client.submit([&](PlanWriter& writer) { record_upload(writer, tensor, UploadForm::kInline); },
                  to_bytes(std::vector<float>{1, 2}));
  }
  // One step; `sleep_ms` keeps it off the I/O thread.
  double step(int64_t sleep_ms) {
    const auto begin = steady_clock::now();
    const auto got = client.fetch([&](PlanWriter& writer) {
      if (sleep_ms > 0) record_sleep(client, writer, sleep_ms);
      record_fetch(writer, tensor);
    });
    const double time = microseconds(steady_clock::now() - begin);
    EXPECT_EQ(got.size(), 2U);
    return time;
  }
  // Of the best of up to forty stretches: a server that the machine once let wait runs its next
  // jobs on the executor's thread for a while, which is no fault of the step.
  double enters_per_step(int steps, int64_t sleep_ms, double wanted) {
    for (int i = 0; i < 5; ++i) step(sleep_ms);
    double best = std::numeric_limits<double>::infinity();
    for (int stretch = 0; stretch < 40 && best > wanted; ++stretch) {
      const uint64_t before = client.stats().enters;
      for (int i = 0; i < steps; ++i) step(sleep_ms);
      best = std::min(best, static_cast<double>(client.stats().enters - before) / steps);
    }
    return best;
  }
  TestServer server;
  WireClient client{server.tcp};
  Tensor tensor;
};

TEST_F(RoundTrip, ATinyStepIsOneSystemCall) {
  const double enters = enters_per_step(100, 0, 1.1);
  std::printf("a tiny step: %.3f system calls of the I/O thread\n", enters);
  EXPECT_LE(enters, 1.1);
}

TEST_F(RoundTrip, AnyOtherStepIsTwo) {
  const double enters = enters_per_step(20, 1, 2.1);
  std::printf("a step on the executor's thread: %.3f system calls of the I/O thread\n", enters);
  EXPECT_LE(enters, 2.1);
}

TEST_F(RoundTrip, TakesLittleMoreThanAPingPong) {
  PingPong ping_pong;
  std::vector<double> bare;
  std::vector<double> ours;
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 100; ++i) bare.push_back(ping_pong.once());
    for (int i = 0; i < 100; ++i) ours.push_back(step(0));
  }
  const double ratio = median(ours) / median(bare);
  std::printf("ping-pong %.1f us, step with a fetch %.1f us, ratio %.2f\n", median(bare),
              median(ours), ratio);
  EXPECT_LT(ratio, 100);
}

}  // namespace
}  // namespace djinn::testing
