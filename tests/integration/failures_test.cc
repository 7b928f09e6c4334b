// SPDX-License-Identifier: Apache-2.0
// What is left when a client or a server dies, stops, or nobody wants to wait any longer.
#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "tests/support/app_process.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

using at::Tensor;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

constexpr milliseconds kTimeout{1000};
constexpr milliseconds kSlack{4000};  // For a machine with much else to do.
const at::Device kDevice("djinn");

milliseconds since(steady_clock::time_point begin) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin);
}

// The text of the c10::Error that it throws; empty if it throws none.
template <typename Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return {};
}

void connect_to(const ServerProcess& server, milliseconds timeout = milliseconds(30'000)) {
  at::set_num_threads(1);
  djinn::connect({.server = server.address(), .connect_timeout = kTimeout, .timeout = timeout});
}

// A second of work for the server, and more.
Tensor long_work(int rounds) {
  auto x = at::ones({512, 512}, kDevice);
  for (int i = 0; i < rounds; ++i) x = x.matmul(x).clamp(-1, 1);
  return x;
}

TEST(AKilledClient, LeavesNothingAndHarmsNobody) {
  const ServerProcess server({"--threads", "1"});
  connect_to(server);
  auto x = at::ones({64}, kDevice);
  EXPECT_EQ(x.sum().item<double>(), 64);
  const uint64_t before = server_stats().device_bytes;
  for (int round = 0; round < 3; ++round) {
    AppProcess app({"hold", "djinn", "256"}, server.address());
    ASSERT_THAT(app.line(), HasSubstr("ready"));
    EXPECT_GE(server_stats().device_bytes, before + (256U << 20));
    EXPECT_EQ((x + round).sum().item<double>(), 64 * (1 + round)) << "beside a busy one";
    app.signal(SIGKILL);
    EXPECT_EQ(app.wait(), 128 + SIGKILL);
    const auto killed = steady_clock::now();
    while (server_stats().device_bytes > before + (1U << 20) && since(killed) < kSlack) {
      EXPECT_EQ(x.sum().item<double>(), 64);
    }
    const auto took = since(killed);
    RecordProperty("freed_after_ms", static_cast<int>(took.count()));
    EXPECT_LT(took, milliseconds(1000)) << "256 MiB of who was killed are not free";
  }
  EXPECT_EQ(x.sum().item<double>(), 64);
}

// Things to do that need the server sooner or later.
struct Need {
  std::string name;
  void (*act)(const Tensor& x);
};
void PrintTo(const Need& need, std::ostream* out) { *out << need.name; }

void fetch(const Tensor& x) { (void)(x + 1).cpu(); }
void read_number(const Tensor& x) { (void)x.sum().item<double>(); }
void ask_for_a_shape(const Tensor& x) { (void)(x > 0).nonzero(); }
void synchronize_with_it(const Tensor& /*x*/) { djinn::synchronize(); }
void upload(const Tensor& /*x*/) {
  for (int i = 0; i < 20; ++i) (void)at::full({16 << 20}, i).to(kDevice);  // Of 64 MiB each.
}
void upload_into(const Tensor& x) {
  auto there = at::empty({16 << 20}, x.options());
  there.zero_();
  for (int i = 0; i < 20; ++i) there.copy_(at::full({16 << 20}, static_cast<float>(i)));
}
void record(const Tensor& x) {
  auto y = x;
  for (int i = 0; i < 10'000'000; ++i) y = y + 1;
}
void flush_often(const Tensor& x) {
  auto y = x;
  for (int i = 0; i < 100'000; ++i) {
    y = y + 1;
    djinn::flush();
  }
}

class AServerThat : public ::testing::TestWithParam<Need> {
 protected:
  // The server gets a signal, and who needs it then an error with its address, in time.
  static void expect_error_after(int signal) {
    ServerProcess server({"--threads", "1"});
    connect_to(server, kTimeout);
    const auto x = at::ones({64}, kDevice);
    ASSERT_EQ(x.sum().item<double>(), 64);
    server.signal(signal);
    if (signal == SIGKILL) server.wait(5000);
    const auto begin = steady_clock::now();
    const std::string error = refusal([&] { GetParam().act(x); });
    EXPECT_THAT(error, HasSubstr(server.address()));
    EXPECT_LT(since(begin), kTimeout + kSlack);
    // It stays lost, and says so at once.
    const auto again = steady_clock::now();
    EXPECT_THAT(refusal([&] { (void)x.cpu(); }), HasSubstr(server.address()));
    EXPECT_LT(since(again), kSlack / 2);
    server.signal(SIGCONT);
    // The process goes on with another one, and keeps tensors of the lost one without harm.
    const ServerProcess other({"--threads", "1"});
    connect_to(other);
    EXPECT_THAT(refusal([&] { (void)x.cpu(); }), HasSubstr("is over"));
    EXPECT_THAT(refusal([&] { Tensor(x).resize_({100}); }), HasSubstr("is over"));
    EXPECT_THAT(refusal([&] { Tensor(x).copy_(at::ones({64})); }), HasSubstr("is over"));
    EXPECT_EQ(at::ones({3}).to(kDevice).sum().item<double>(), 3);
  }
};

TEST_P(AServerThat, WasKilledIsAnErrorWithItsAddress) { expect_error_after(SIGKILL); }
TEST_P(AServerThat, WasStoppedIsAnErrorWithItsAddress) { expect_error_after(SIGSTOP); }

INSTANTIATE_TEST_SUITE_P(
    While, AServerThat,
    ::testing::Values(Need{"Fetching", fetch}, Need{"ReadingANumber", read_number},
                      Need{"AskingForAShape", ask_for_a_shape},
                      Need{"Synchronizing", synchronize_with_it}, Need{"Uploading", upload},
                      Need{"UploadingIntoATensor", upload_into}, Need{"Recording", record},
                      Need{"Flushing", flush_often}),
    [](const auto& param) { return param.param.name; });

TEST(AServer, KilledWhileAFetchWaitsIsAnError) {
  ServerProcess server({"--threads", "1"});
  connect_to(server);
  const auto y = long_work(2000);
  std::thread killer([&] {
    std::this_thread::sleep_for(milliseconds(100));
    server.signal(SIGKILL);
  });
  EXPECT_THAT(refusal([&] { (void)y.cpu(); }), HasSubstr(server.address()));
  killer.join();
}

TEST(ADeadline, ThatCannotBeMetIsAnErrorOfWhatDidNotRunAndOfNothingElse) {
  const ServerProcess server({"--threads", "1"});
  connect_to(server);
  const auto x = at::ones({64}, kDevice);
  auto cache = at::zeros({64}, kDevice);
  const auto busy = long_work(100);
  djinn::set_deadline(milliseconds(20));
  const auto y = x + 1;
  cache += 1;
  const std::string why = refusal([&] { (void)y.sum().item<double>(); });
  EXPECT_THAT(why, HasSubstr("its deadline")) << "the same session's work of a second was ahead";
  EXPECT_NE(refusal([&] { (void)cache.cpu(); }), "") << "it does not have what it was to have";
  djinn::set_deadline(milliseconds(0));
  EXPECT_EQ(x.sum().item<double>(), 64);
  EXPECT_EQ((x + 1).sum().item<double>(), 128);
  EXPECT_EQ(busy.sizes(), busy.cpu().sizes());
  EXPECT_THAT(refusal([] { djinn::set_deadline(milliseconds(-1)); }), HasSubstr("-1 ms"));
  EXPECT_THAT(refusal([] { djinn::set_deadline(std::chrono::hours(25)); }), HasSubstr("between"));
}

TEST(AServer, ThatDoesNotAnswerTheHelloIsAnErrorInTime) {
  ServerProcess server({"--threads", "1"});
  server.signal(SIGSTOP);
  const auto begin = steady_clock::now();
  EXPECT_THAT(refusal([&] { connect_to(server); }), HasSubstr(server.address()));
  EXPECT_LT(since(begin), kTimeout + kSlack);
  server.signal(SIGCONT);
  connect_to(server);
  EXPECT_EQ(at::ones({3}).to(kDevice).sum().item<double>(), 3);
}

TEST(AServer, ThatWorksForLongerThanTheTimeoutIsNotGone) {
  const ServerProcess server({"--threads", "1"});
  connect_to(server, milliseconds(2500));
  // One operator after the other, until it takes longer than the timeout.
  const auto begin = steady_clock::now();
  (void)long_work(20).cpu();
  const auto per_round = std::max<double>(1, static_cast<double>(since(begin).count())) / 20;
  const auto rounds = static_cast<int>(5000 / per_round);
  EXPECT_EQ(refusal([&] { (void)long_work(std::min(rounds, 4000)).cpu(); }), "");
}

// -- Ctrl-C

void on_interrupt(int /*signal*/) { djinn::cancel(); }

class Interrupts : public ::testing::Test {
 protected:
  void SetUp() override {
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, &before_);
  }
  void TearDown() override { sigaction(SIGINT, &before_, nullptr); }

  // Runs it while somebody presses Ctrl-C, again and again, until it has returned.
  template <typename Action>
  static std::string interrupted(const Action& action) {
    std::atomic<bool> done = false;
    std::thread user([&] {
      while (!done) {
        std::this_thread::sleep_for(milliseconds(50));
        if (!done) kill(getpid(), SIGINT);
      }
    });
    std::string error = refusal(action);
    done = true;
    user.join();
    return error;
  }

 private:
  struct sigaction before_ {};
};

TEST_F(Interrupts, EndABlockedFetchAndTheSessionGoesOn) {
  ServerProcess server({"--threads", "1"});
  connect_to(server);
  const auto x = at::ones({1000}, kDevice);
  const auto y = x + 1;
  for (int round = 0; round < 3; ++round) {
    server.signal(SIGSTOP);
    EXPECT_THAT(interrupted([&] { (void)y.cpu(); }), HasSubstr("cancelled"));
    EXPECT_THAT(interrupted([] { djinn::synchronize(); }), HasSubstr("cancelled"));
    server.signal(SIGCONT);
    EXPECT_TRUE(y.cpu().equal(at::full({1000}, 2.0F))) << "the answer nobody waited for is skipped";
    EXPECT_EQ(x.sum().item<double>(), 1000);
  }
}

TEST_F(Interrupts, DoNotHarmUploadsAndOtherCalls) {
  const ServerProcess server({"--threads", "1"});
  connect_to(server);
  Tensor there;
  EXPECT_EQ(interrupted([&] {
              for (int i = 0; i < 5; ++i) there = at::full({16 << 20}, 1.0 + i).to(kDevice);
              for (int i = 0; i < 20'000; ++i) there.select(0, 0).add_(1);
            }),
            "");
  EXPECT_EQ(there.slice(0, 0, 3).sum().item<double>(), 15 + 20'000);
}

}  // namespace
}  // namespace djinn::testing
