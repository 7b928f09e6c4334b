// SPDX-License-Identifier: Apache-2.0
// Which loop one gets, and what it costs to have it.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "tests/conformance/transport/pair.h"
#include "tests/support/sanitized.h"

namespace djinn::transport {
namespace {

using namespace std::chrono_literals;
using testing::kSanitized;

TEST(Loop, UsesIoUringWhereTheKernelAllowsIt) {
  const auto loop = make_loop({});
  ASSERT_TRUE(loop);
  if (std::string((*loop)->kind()) != "io_uring") GTEST_SKIP() << "this machine forbids io_uring";
}

TEST(Loop, UsesPollWhenTheEnvironmentSaysSo) {
  ::setenv("DJINN_IO", "poll", 1);  // NOLINT(concurrency-mt-unsafe): one thread.
  const auto loop = make_loop({});
  ::unsetenv("DJINN_IO");  // NOLINT(concurrency-mt-unsafe)
  ASSERT_TRUE(loop);
  EXPECT_STREQ((*loop)->kind(), "poll");
}

// As Docker's default profile does it.
void forbid_io_uring() {
  std::array<sock_filter, 4> filter = {
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program{.len = filter.size(), .filter = filter.data()};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) std::_Exit(2);
}

TEST(LoopDeathTest, UsesPollAndSaysWhyWhenIoUringIsForbidden) {
  EXPECT_EXIT(
      {
        forbid_io_uring();
        ::dup2(STDERR_FILENO, STDOUT_FILENO);  // The log goes there.
        const auto loop = make_loop({.single_thread = true});
        std::_Exit(loop && std::string((*loop)->kind()) == "poll" ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "poll.*io_uring.*not permitted");
}

TEST(Loop, KeepsAcceptingAfterDescriptorsRanOut) {
  if (kSanitized) GTEST_SKIP() << "UBSan opens a pipe to look at a vptr, and there is none left";
  for (const bool poll : {false, true}) {
    Pair pair(Kind{.name = "tcp", .make = [poll] { return make_loop({.force_poll = poll}); }});
    auto second = Pair::value(pair.client_loop->connect(pair.listener->address(), 5s));
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    const rlimit none{.rlim_cur = 3, .rlim_max = before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
    pair.run_until([] { return false; }, 30ms);
    ::setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_NE(pair.accept(), nullptr);
  }
}

uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t total = 0;
  uint64_t resident = 0;
  file >> total >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

TEST(Loop, HoldsAnIdleConnectionInTwentyKibibytes) {
  if (kSanitized) GTEST_SKIP() << "sanitizers have their own ideas of memory";
  Pair pair(Kind{.name = "tcp", .make = [] { return make_loop({.single_thread = true}); }});
  struct End {
    std::unique_ptr<Connection> connection;
    Recorder sink;
  };
  constexpr size_t kConnections = 400;
  std::vector<std::unique_ptr<End>> ends;
  const auto start = [&](Loop& loop, std::unique_ptr<Connection> connection) {
    auto& end = *ends.emplace_back(std::make_unique<End>());
    end.connection = std::move(connection);
    loop.start(*end.connection, end.sink);
  };
  const uint64_t before = resident_bytes();
  for (size_t i = 0; i < kConnections; ++i) {
    auto client = Pair::value(pair.client_loop->connect(pair.listener->address(), 5s));
    client->send(FrameKind::kStep, std::array<std::byte, 64>{}, {}, nullptr);
    start(*pair.client_loop, std::move(client));
    start(*pair.server_loop, pair.accept());
    ASSERT_TRUE(pair.run_until([&] { return ends.back()->sink.complete(1); }));
  }
  const uint64_t each = (resident_bytes() - before) / ends.size();
  RecordProperty("bytes_per_idle_connection", std::to_string(each));
  EXPECT_LE(each, 20U << 10);
}

}  // namespace
}  // namespace djinn::transport
