// SPDX-License-Identifier: Apache-2.0
// An upload is a snapshot: behind `.to("djinn")` the source may be written, freed or unmapped.
#include <sys/mman.h>

#include <csignal>
#include <cstring>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

using at::Tensor;

struct Upload {
  std::string name;
  int64_t floats;
  bool share;
};
void PrintTo(const Upload& upload, std::ostream* out) { *out << upload.name; }

Tensor numbers(int64_t floats) {
  return at::arange(floats, at::kInt).bitwise_and(0xffff).to(at::kFloat);
}

class Uploads : public ::testing::TestWithParam<Upload> {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);
    server_ = std::make_unique<ServerProcess>(std::vector<std::string>{"--threads", "1"});
  }
  static void TearDownTestSuite() { server_.reset(); }

  void SetUp() override {
    djinn::connect({.server = server_->address(), .share = GetParam().share});
    static int tests = 0;
    salt_ = ++tests;  // What the server has already, it would not be sent.
  }

  // The server reads nothing for a while, so that what it reads later is what was kept for it.
  void stop_server_for(std::chrono::milliseconds time) {
    server_->signal(SIGSTOP);
    waker_ = std::jthread([time] {
      std::this_thread::sleep_for(time);
      server_->signal(SIGCONT);
    });
  }

  [[nodiscard]] Tensor source() const { return numbers(GetParam().floats) + salt_; }
  void expect_snapshot(const Tensor& remote) const {
    const Tensor got = remote.cpu();
    EXPECT_TRUE(got.flatten().equal(source())) << "the upload is not what was there before";
  }

  const at::Device device_{"djinn"};
  int salt_ = 0;
  std::jthread waker_;
  static std::unique_ptr<ServerProcess> server_;
};
std::unique_ptr<ServerProcess> Uploads::server_;

TEST_P(Uploads, KeepWhatWasThereBeforeAtenWroteTheSource) {
  Tensor from = source();
  stop_server_for(std::chrono::milliseconds(50));
  const Tensor remote = from.to(device_);
  from.fill_(-1);
  expect_snapshot(remote);
}

TEST_P(Uploads, KeepWhatWasThereBeforeARawPointerWrote) {
  Tensor from = source();
  auto* const raw = from.data_ptr<float>();
  stop_server_for(std::chrono::milliseconds(50));
  const Tensor remote = from.to(device_);
  std::memset(raw, 0xff, from.nbytes());
  expect_snapshot(remote);
}

TEST_P(Uploads, OutliveASourceThatIsFreed) {
  Tensor from = source();
  stop_server_for(std::chrono::milliseconds(50));
  const Tensor remote = from.to(device_);
  const int64_t count = from.numel();
  from = Tensor();
  const Tensor other = at::full({count}, -1.0);  // Likely in the same place.
  expect_snapshot(remote);
}

TEST_P(Uploads, OutliveASourceThatIsUnmapped) {
  const auto bytes = static_cast<size_t>(GetParam().floats) * sizeof(float);
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  std::memcpy(memory, source().const_data_ptr(), bytes);
  stop_server_for(std::chrono::milliseconds(50));
  const Tensor remote = at::from_blob(memory, {GetParam().floats}).to(device_);
  ASSERT_EQ(munmap(memory, bytes), 0);
  expect_snapshot(remote);
}

TEST_P(Uploads, KeepTheSourceOfACopyIntoATensor) {
  Tensor from = source();
  Tensor remote = at::zeros_like(from, from.options().device(device_));
  remote.add_(1);
  stop_server_for(std::chrono::milliseconds(50));
  remote.copy_(from);
  from.zero_();
  expect_snapshot(remote);
}

TEST_P(Uploads, KeepTheSourceOfAViewWithGaps) {
  Tensor from = at::stack({source(), source()}, 1);  // Every second float.
  stop_server_for(std::chrono::milliseconds(50));
  const Tensor remote = from.select(1, 0).to(device_);
  from.zero_();
  expect_snapshot(remote);
}

const auto kName = [](const auto& param) { return param.param.name; };
INSTANTIATE_TEST_SUITE_P(Sizes, Uploads,
                         ::testing::Values(Upload{"Small", 100, true},
                                           Upload{"Streamed", 50'000, true},
                                           Upload{"Shared64MiB", 16 << 20, true},
                                           Upload{"Streamed64MiB", 16 << 20, false}),
                         kName);

}  // namespace
}  // namespace djinn::testing
