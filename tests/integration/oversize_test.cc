// SPDX-License-Identifier: Apache-2.0
// Models larger than the device: every layer comes when it is needed, and the results are the same.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "client/djinn.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

constexpr int64_t kWidth = 512;  // A layer's weight is one MiB.

class Oversize : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr int kLayers = 24;

  void SetUp() override {
    at::set_num_threads(1);
    at::manual_seed(7);
    for (int i = 0; i < kLayers; ++i) weights.push_back(torch::randn({kWidth, kWidth}) / 23);
  }

  static at::Tensor forward(at::Tensor x, const std::vector<at::Tensor>& weights) {
    for (const at::Tensor& weight : weights) x = torch::relu(torch::mm(x, weight)) + x;
    return x;
  }

  std::vector<at::Tensor> weights;
};

TEST_P(Oversize, AModelSixTimesTheDeviceGivesTheSameResults) {
  const ServerProcess server(
      {"--threads", "1", "--device-memory", "4MiB", "--memory-policy", GetParam()});
  connect({.server = server.address()});
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> there;
  for (const at::Tensor& weight : weights) there.push_back(weight.to("djinn"));
  for (int step = 0; step < 5; ++step) {
    const at::Tensor x = torch::randn({16, kWidth});
    const at::Tensor expected = forward(x, weights);
    const at::Tensor got = forward(x.to("djinn"), there).cpu();
    ASSERT_EQ(std::memcmp(got.const_data_ptr(), expected.const_data_ptr(), expected.nbytes()), 0)
        << "step " << step;
  }
}

TEST_P(Oversize, TrainingChangesWeightsThatComeAndGo) {
  const ServerProcess server(
      {"--threads", "1", "--device-memory", "6MiB", "--memory-policy", GetParam()});
  connect({.server = server.address()});
  std::vector<at::Tensor> here;
  std::vector<at::Tensor> there;
  for (int i = 0; i < 8; ++i) {
    here.push_back(weights[static_cast<size_t>(i)].clone().requires_grad_());
    there.push_back(weights[static_cast<size_t>(i)].to("djinn").requires_grad_());
  }
  for (int step = 0; step < 3; ++step) {
    const at::Tensor x = torch::randn({16, kWidth});
    const auto train = [](const at::Tensor& input, std::vector<at::Tensor>& parameters) {
      const at::Tensor loss = forward(input, parameters).square().mean();
      loss.backward();
      const at::NoGradGuard no_grad;
      for (at::Tensor& each : parameters) {
        each.sub_(each.grad(), 0.01);
        each.mutable_grad() = at::Tensor();
      }
      return loss.item<float>();
    };
    ASSERT_EQ(train(x, here), train(x.to("djinn"), there)) << "step " << step;
  }
  for (size_t i = 0; i < here.size(); ++i) {
    EXPECT_TRUE(torch::equal(there[i].detach().cpu(), here[i].detach())) << "weight " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, Oversize, ::testing::Values("plan", "lru"),
                         [](const auto& param) { return std::string(param.param); });

// A line of /proc/PID/status, in bytes.
uint64_t status_bytes(pid_t pid, const std::string& field) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/status");
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with(field + ":")) return std::stoull(line.substr(field.size() + 1)) << 10;
  }
  return 0;
}

// What an app holds: random tensors on the server, and the same here.
struct Holdings {
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs;
  size_t bytes = 0;

  void add(const at::Tensor& here, const at::Device& device) {
    pairs.emplace_back(here, here.to(device));
    bytes += here.nbytes();
  }
  void drop(size_t which) {
    bytes -= pairs[which].first.nbytes();
    pairs.erase(pairs.begin() + static_cast<std::ptrdiff_t>(which));
  }
};

// Four sessions whose tensors together are a little less than the device, then three times as much.
TEST(MemoryPressure, AThousandRequestsOfFourSessionsAreAllRight) {
  constexpr size_t kDevice = size_t{48} << 20;
  constexpr size_t kHost = size_t{160} << 20;
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  const ServerProcess server(
      {"--threads", "1", "--device-memory", "48MiB", "--host-memory", "160MiB"});
  const std::string& address = server.address();
  connect({.server = address + "," + address + "," + address + "," + address, .share = false});
  const at::NoGradGuard no_grad;
  std::vector<Holdings> apps(4);
  for (int i = 0; i < 4; ++i) {  // What the server has without any of this.
    (void)at::ones({4}).to(at::Device("djinn:" + std::to_string(i))).sum().item<float>();
  }
  const uint64_t resident_before = status_bytes(server.pid(), "VmHWM");
  for (int request = 0; request < 1000; ++request) {
    const size_t most = (request < 300 ? kDevice * 95 / 100 : kDevice * 3) / 4;
    const size_t at = random() % 4;
    Holdings& app = apps[at];
    const at::Device device("djinn:" + std::to_string(at));
    const auto rows = static_cast<int64_t>(1 + random() % 2000);
    const at::Tensor fresh = at::rand({rows, 128});
    while (!app.pairs.empty() && app.bytes + fresh.nbytes() > most) {
      app.drop(random() % app.pairs.size());
    }
    app.add(fresh, device);
    auto& [here, there] = app.pairs[random() % app.pairs.size()];
    if (random() % 3 == 0) {
      here.mul_(1.5).add_(1);
      there.mul_(1.5).add_(1);
    }
    if (random() % 4 == 0) {
      ASSERT_TRUE(at::equal(there.cpu(), here)) << "request " << request;
    } else {
      ASSERT_EQ(there.select(0, 0).cpu().sum().item<float>(),
                here.select(0, 0).clone().sum().item<float>())
          << "request " << request;
    }
  }
  for (Holdings& app : apps) {
    for (auto& [here, there] : app.pairs) ASSERT_TRUE(at::equal(there.cpu(), here));
  }
  if (kSanitized) GTEST_SKIP() << "a sanitizer keeps freed memory resident";
  // Code, operators' scratch and what is on its way through sockets.
  constexpr uint64_t kSlack = uint64_t{96} << 20;
  EXPECT_LE(status_bytes(server.pid(), "VmHWM"), resident_before + kDevice + kHost + kSlack);
}

// The largest batch that fits is found, and fits whatever was done in between.
TEST(MemoryEdge, AStepThatFittedOnceFitsAlways) {
  const auto seed = static_cast<uint32_t>(test_seed());
  std::printf("DJINN_SEED=%u\n", seed);
  std::mt19937 random(seed);
  const ServerProcess server(
      {"--threads", "1", "--device-memory", "12MiB", "--host-memory", "512MiB"});
  connect({.server = server.address()});
  const at::Tensor weight = at::rand({256, 256}).to("djinn").requires_grad_();
  std::vector<at::Tensor> kept;  // small and large ones, which live for a while
  std::string refusal;
  const auto fits = [&](int64_t batch) {
    try {
      const at::Tensor x = at::rand({batch, 256}).to("djinn");
      at::Tensor y = x;
      for (int i = 0; i < 3; ++i) y = torch::gelu(torch::mm(y, weight)) + x;
      torch::softmax(y, 1).square().mean().backward();
      (void)weight.grad().sum().item<float>();
      return true;
    } catch (const c10::OutOfMemoryError& error) {
      refusal = error.what_without_backtrace();
      weight.mutable_grad() = at::Tensor();
      return false;
    }
  };
  int64_t good = 256;
  int64_t bad = 16384;
  while (bad - good > 64) {
    const int64_t middle = (good + bad) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  good -= 64;  // What the small ones take in the end, which nothing can move.
  EXPECT_GT(good, 1024) << "a result of a MiB";
  for (int step = 0; step < 40; ++step) {
    for (int i = 0; i < 8; ++i) {
      const auto rows = static_cast<int64_t>(1 + random() % (random() % 3 == 0 ? 2000 : 4));
      kept.push_back(at::rand({rows, 128}).to("djinn"));
      kept.push_back(kept.back().slice(0, 0, 1).sum());
    }
    while (kept.size() > 48) {
      std::swap(kept[random() % kept.size()], kept.back());
      kept.pop_back();
    }
    ASSERT_TRUE(fits(good)) << "step " << step << ", a batch of " << good << ": " << refusal;
  }
}

// Weights that arrive faster than anyone verifies or uses them.
TEST(OversizeUploads, TwentyTimesTheDeviceAreInNobodysWay) {
  const ServerProcess server({"--threads", "1", "--device-memory", "4MiB"});
  connect({.server = server.address()});
  const at::NoGradGuard no_grad;
  at::manual_seed(7);
  const at::Tensor left = torch::randn({512, 512});
  const at::Tensor right = torch::randn({512, 512});
  const at::Tensor product = left.mm(right);  // with its operands three quarters of the device
  const at::Tensor there_left = left.to("djinn");
  const at::Tensor there_right = right.to("djinn");
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs;
  for (int i = 0; i < 80; ++i) {
    const at::Tensor here = torch::randn({512, 512});
    pairs.emplace_back(here, here.to("djinn"));
    if (i % 8 != 0) continue;
    ASSERT_TRUE(at::equal(there_left.mm(there_right).cpu(), product)) << i;
  }
  for (const auto& [here, there] : pairs) ASSERT_TRUE(at::equal(there.cpu(), here));
}

TEST(OversizeRefusal, AnOperatorThatCannotFitIsATypedErrorAndTheSessionGoesOn) {
  const ServerProcess server({"--threads", "1", "--device-memory", "4MiB"});
  connect({.server = server.address()});
  const at::Tensor small = torch::ones({64, 1024}).to("djinn");
  std::string error;
  try {
    (small.t().mm(small)).cpu();  // 4 MiB of result
  } catch (const std::exception& e) {
    error = e.what();
  }
  EXPECT_NE(error.find("out of memory"), std::string::npos) << error;
  EXPECT_NE(error.find("aten::mm"), std::string::npos) << error;
  EXPECT_NE(error.find("split the batch, or raise --device-memory"), std::string::npos) << error;
  EXPECT_EQ(small.sum().item<float>(), 64 * 1024);
}

}  // namespace
}  // namespace djinn::testing
