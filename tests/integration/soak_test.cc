// SPDX-License-Identifier: Apache-2.0
// A thousand sessions on one server, a hundred of them at work at a time: each is answered right,
// threads stay as many as they were, and when all have gone, memory is what it was after the wave
// before. DJINN_SOAK_WAVES=60 makes it half an hour.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>

#include <gtest/gtest.h>

#include "tests/support/sanitized.h"
#include "tests/support/server_process.h"
#include "trace/driver.h"
#include "trace/record.h"
#include "trace/trace.h"

namespace djinn::testing {
namespace {

// A sanitizer's server is an order of magnitude slower.
constexpr uint32_t kSessions = kSanitized ? 100 : 1000;
constexpr uint32_t kActive = kSessions / 10;
constexpr uint64_t kMebibyte = 1 << 20;

// Of a process, as the kernel counts them.
struct Footprint {
  uint64_t resident_bytes = 0;
  uint64_t threads = 0;
  size_t files = 0;
};
Footprint footprint(pid_t pid) {
  const std::string at = "/proc/" + std::to_string(pid);
  Footprint out;
  std::ifstream status(at + "/status");
  for (std::string word; status >> word;) {
    if (word == "VmRSS:") {
      status >> out.resident_bytes;
      out.resident_bytes *= 1024;
    }
    if (word == "Threads:") status >> out.threads;
  }
  for (const auto& each : std::filesystem::directory_iterator(at + "/fd")) {
    (void)each;
    ++out.files;
  }
  return out;
}

int waves() {
  const char* const given = std::getenv("DJINN_SOAK_WAVES");  // NOLINT(concurrency-mt-unsafe)
  return given == nullptr ? 2 : std::max(2, std::atoi(given));
}

class Soak : public ::testing::Test {
 protected:
  trace::Trace recorded(std::vector<std::string> words) {
    const std::string path = ::testing::TempDir() + "/soak-" + std::to_string(getpid()) + ".trace";
    words[0] = binary_folder() + "/" + words[0];
    const auto made = trace::record(address_, path, words);
    if (!made) throw std::runtime_error(made.error().message);
    auto trace = trace::Trace::open(path);
    std::filesystem::remove(path);  // The mapping holds it.
    return std::move(trace.value());
  }
  // All sessions connect, play and go. What the server was when all were there.
  Footprint wave(const trace::Trace& decode, const trace::Trace& train) {
    trace::Load load{.server = address_, .active = kActive, .turn = 4};
    for (const trace::Trace* const each : {&decode, &train}) {
      load.parts.push_back({.trace = each, .sessions = kSessions / 2, .plays = kSessions / 2});
    }
    Footprint full;
    load.connected = [&] { full = footprint(server_.pid()); };
    const auto outcome = trace::drive(load);
    EXPECT_TRUE(outcome) << outcome.error().message;
    EXPECT_EQ(outcome->sessions_most, kSessions);
    for (const trace::Tally& tally : outcome->parts) {
      EXPECT_EQ(tally.plays, kSessions / 2) << tally.first_error;
      EXPECT_EQ(tally.different, 0U) << tally.first_difference;
    }
    return full;
  }
  // Once the server has given back what the last sessions left.
  Footprint afterwards() {
    std::this_thread::sleep_for(std::chrono::seconds(5));
    return footprint(server_.pid());
  }

  ServerProcess server_{{"--threads", "1", "--log-level", "warn"}};
  transport::Address address_ = transport::parse_address(server_.address()).value();
};

TEST_F(Soak, AThousandSessionsAreRightAndLeaveNothingBehind) {
  const trace::Trace decode = recorded({"tests/decode", "djinn", "8"});
  const trace::Trace train = recorded({"train_mlp", "--device", "djinn", "--steps", "20"});
  const Footprint before = footprint(server_.pid());
  Footprint first;
  for (int i = 0; i < waves(); ++i) {
    const Footprint full = wave(decode, train);
    EXPECT_EQ(full.threads, before.threads);
    const Footprint after = afterwards();
    std::cout << "wave " << i << ": " << full.resident_bytes / kMebibyte << " MiB connected, "
              << after.resident_bytes / kMebibyte << " MiB afterwards, "
              << before.resident_bytes / kMebibyte << " MiB before the first" << std::endl;
    EXPECT_EQ(after.threads, before.threads);
    EXPECT_EQ(after.files, before.files);
    if (kSanitized) continue;  // It keeps what is freed, to see who reads it.
    // The first wave leaves what LibTorch keeps and the heap's pieces; no wave adds to that.
    EXPECT_LE(after.resident_bytes, before.resident_bytes + 256 * kMebibyte);
    if (i == 0) first = after;
    EXPECT_LE(after.resident_bytes, first.resident_bytes * 5 / 4);
  }
}

}  // namespace
}  // namespace djinn::testing
