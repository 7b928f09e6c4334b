// SPDX-License-Identifier: Apache-2.0
// Many sessions of real clients on one server: each gets its own results, and costs little when it
// is idle.
#include <atomic>
#include <chrono>
#include <fstream>
#include <memory>
#include <mutex>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "tests/integration/random_program.h"
#include "tests/support/app_process.h"
#include "tests/support/sanitized.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

// djinn:0 ... are sessions with the same server.
std::string times(const std::string& address, int count) {
  std::string out = address;
  for (int i = 1; i < count; ++i) out += "," + address;
  return out;
}

struct Silence : c10::WarningHandler {
  void process(const c10::Warning& /*warning*/) override {}
};

TEST(Sessions, ThirtyTwoAtOnceOfMixedProgramsAreEachCorrect) {
  constexpr int kSessions = 32;
  constexpr int kPrograms = 15;
  at::set_num_threads(1);
  const ServerProcess server({"--threads", "1"});
  AppProcess on_cpu({"number", "cpu"}, server.address());
  const std::string expected = on_cpu.line();
  ASSERT_EQ(on_cpu.wait(), 0) << on_cpu.errors();

  std::vector<std::unique_ptr<AppProcess>> others;
  for (int i = 0; i < 4; ++i) {
    const std::vector<std::string> args{"number", "djinn"};
    others.push_back(std::make_unique<AppProcess>(args, server.address()));
  }
  djinn::connect({.server = times(server.address(), kSessions)});
  std::mutex mutex;
  std::string differences;
  std::atomic<uint64_t> steps = 0;
  std::vector<std::jthread> threads;
  threads.reserve(kSessions);
  for (int session = 0; session < kSessions; ++session) {
    threads.emplace_back([&, session] {
      Silence silence;
      const c10::WarningUtils::WarningHandlerGuard quiet(&silence);
      const at::Device device("djinn:" + std::to_string(session));
      for (int i = 0; i < kPrograms; ++i) {
        RandomProgram program(static_cast<uint64_t>(1000 * session + i), device);
        const auto difference = program.run(30);
        steps += program.steps().size();
        if (!difference) continue;
        const std::lock_guard lock(mutex);
        differences += "session " + std::to_string(session) + ", program " + std::to_string(i) +
                       ": " + *difference + "\n";
      }
    });
  }
  threads.clear();
  EXPECT_EQ(differences, "");
  EXPECT_GT(steps, uint64_t{kSessions} * kPrograms * 10);
  for (const auto& app : others) {
    EXPECT_EQ(app->line(), expected);
    EXPECT_EQ(app->wait(), 0) << app->errors();
  }
  uint64_t executed = 0;
  for (int session = 0; session < kSessions; ++session) {
    executed += server_stats(session).ops_executed;
  }
  EXPECT_GT(executed, uint64_t{kSessions} * kPrograms);
}

// Memory of a process that is in use and belongs to no file.
int64_t anonymous_bytes(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stoll(line.substr(8)) * 1024;
  }
  return -1;
}

TEST(Sessions, ThatAreIdleCostTheServerLittle) {
  if (kSanitized) GTEST_SKIP() << "sanitizers have their own ideas of memory";
  constexpr int kSessionsEach = 50;
  constexpr int kMore = 4;
  constexpr int64_t kBytesMax = 64 << 10;
  const ServerProcess server({"--threads", "1"});
  std::vector<std::unique_ptr<AppProcess>> apps;
  const auto start = [&] {
    const std::vector<std::string> args{"sessions", std::to_string(kSessionsEach)};
    apps.push_back(std::make_unique<AppProcess>(args, times(server.address(), kSessionsEach)));
    ASSERT_EQ(apps.back()->line(), "ready") << apps.back()->errors();
  };
  const auto settled = [&] {  // What is kept for a session is packed when it was idle for a second.
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));
    return anonymous_bytes(server.pid());
  };
  start();
  const int64_t before = settled();
  ASSERT_GT(before, 0);
  for (int i = 0; i < kMore; ++i) start();
  int64_t each = 0;
  for (int tries = 0; tries < 5; ++tries) {
    each = (settled() - before) / (int64_t{kMore} * kSessionsEach);
    if (each <= kBytesMax) break;
  }
  std::printf("an idle session: %ld bytes\n", each);
  RecordProperty("idle_session_bytes", static_cast<int>(each));
  EXPECT_LE(each, kBytesMax);
}

}  // namespace
}  // namespace djinn::testing
