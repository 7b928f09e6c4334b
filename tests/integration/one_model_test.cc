// SPDX-License-Identifier: Apache-2.0
// Fifty sessions on one model: the device holds it once, and who trains its weights trains nobody
// else's, in whatever order they come.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "tests/support/http_peer.h"
#include "tests/support/seed.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

constexpr int kSessions = 50;
constexpr int kSteps = 600;
constexpr int64_t kWidth = 512;
constexpr size_t kLayers = 4;
constexpr int64_t kLayerBytes = kWidth * kWidth * 4;
constexpr int64_t kPrivateBytesMax = 64 << 10;  // a session's input, and what it takes to have it

using Weights = std::vector<at::Tensor>;

Weights pretrained() {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  Weights out;
  for (size_t i = 0; i < kLayers; ++i) {
    out.push_back(at::rand({kWidth, kWidth}, generator).sub_(0.5).mul_(0.1));
  }
  return out;
}

at::Tensor forward(const Weights& weights, at::Tensor x) {
  for (const auto& each : weights) x = x.mm(each).tanh();
  return x;
}

// A step of gradient descent on the last layers from `first`; those are written in place.
void train(Weights& weights, const at::Tensor& x, size_t first) {
  for (size_t i = first; i < kLayers; ++i) weights[i].requires_grad_();
  forward(weights, x).square().mean().backward();
  const at::NoGradGuard no_grad;
  for (size_t i = first; i < kLayers; ++i) {
    weights[i].sub_(weights[i].grad(), 0.5);
    weights[i].mutable_grad() = at::Tensor();
    weights[i].requires_grad_(false);
  }
}

// One app: what it has on the device, and the same on the CPU.
class App {
 public:
  App(int session, const Weights& model)
      : device_("djinn:" + std::to_string(session)), model_(model) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(session));
    x_ = at::rand({1, kWidth}, generator);
    there_x_ = x_.to(device_);
    load();
  }
  void load() {
    here_ = model_;
    own_from_ = kLayers;
    there_.clear();
    for (const auto& each : model_) there_.push_back(each.to(device_));
  }
  void train(size_t first) {
    // The CPU's shares nothing any more with what it writes.
    for (size_t i = first; i < own_from_; ++i) here_[i] = model_[i].clone();
    own_from_ = std::min(own_from_, first);
    testing::train(here_, x_, first);
    testing::train(there_, there_x_, first);
  }
  [[nodiscard]] bool answers_as_the_cpu() const {
    return forward(there_, there_x_).cpu().equal(forward(here_, x_));
  }
  [[nodiscard]] bool has_the_weights_of_the_cpu() const {
    for (size_t i = 0; i < kLayers; ++i) {
      if (!there_[i].cpu().equal(here_[i])) return false;
    }
    return true;
  }
  // Layers that it has written.
  [[nodiscard]] int64_t own() const { return static_cast<int64_t>(kLayers - own_from_); }

 private:
  at::Device device_;
  const Weights& model_;
  at::Tensor x_, there_x_;
  Weights here_, there_;
  size_t own_from_ = kLayers;
};

class OneModel : public ::testing::Test {
 protected:
  OneModel() {
    at::set_num_threads(1);
    std::string addresses = server_.address();
    for (int i = 1; i < kSessions; ++i) addresses += "," + server_.address();
    connect({.server = addresses});
  }
  [[nodiscard]] static int64_t device_bytes() {
    return static_cast<int64_t>(server_stats().device_bytes);
  }
  // Others may have an artifact when the server has hashed it itself.
  void wait_until_it_is_shared() const {
    const std::string name = "\ndjinn_artifact_bytes ";
    int64_t bytes = 0;
    for (int tries = 0; tries < 2000 && bytes < kModelBytes; ++tries) {
      const std::string page = http_body(admin_, "/metrics");
      const size_t at = page.find(name);
      if (at != std::string::npos) bytes = std::stoll(page.substr(at + name.size()));
      usleep(10'000);
    }
    ASSERT_GE(bytes, kModelBytes);
  }
  // All that everybody has, if the model is there once.
  [[nodiscard]] int64_t bytes_at_most() const {
    int64_t out = kModelBytes;
    for (const auto& app : apps_) out += kPrivateBytesMax + app.own() * kLayerBytes;
    return out;
  }
  void seat_all() {
    apps_.reserve(kSessions);
    apps_.emplace_back(0, model_);
    synchronize(0);
    wait_until_it_is_shared();
    for (int i = 1; i < kSessions; ++i) {
      apps_.emplace_back(i, model_);
      synchronize(i);
    }
  }

  static constexpr int64_t kModelBytes = kLayerBytes * static_cast<int64_t>(kLayers);
  transport::Address admin_{
      .kind = transport::Address::Kind::kUnix,
      .host = ::testing::TempDir() + "djinn-one-model-" + std::to_string(getpid()) + ".sock"};
  ServerProcess server_{{"--threads", "1", "--admin", admin_.text()}};
  const Weights model_ = pretrained();
  std::vector<App> apps_;
};

TEST_F(OneModel, IsOnTheDeviceOnceForFiftySessions) {
  const int64_t before = device_bytes();
  seat_all();
  const int64_t bytes = device_bytes() - before;
  std::printf("%d sessions: %.2f models\n", kSessions,
              static_cast<double>(bytes) / static_cast<double>(kModelBytes));
  EXPECT_GE(bytes, kModelBytes);
  EXPECT_LE(bytes, bytes_at_most());
  for (const auto& app : apps_) EXPECT_TRUE(app.answers_as_the_cpu());
}

TEST_F(OneModel, IsNobodyElsesWhenOneTrainsIt) {
  const uint64_t seed = test_seed();
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const int64_t before = device_bytes();
  seat_all();
  for (int step = 0; step < kSteps; ++step) {
    SCOPED_TRACE(step);
    App& app = apps_[random() % kSessions];
    const uint64_t what = random() % 10;
    if (what == 0) app.load();
    if (what == 1) app.train(random() % kLayers);
    if (what == 2) {
      ASSERT_TRUE(app.has_the_weights_of_the_cpu());
    }
    ASSERT_TRUE(app.answers_as_the_cpu());
  }
  for (int i = 0; i < kSessions; ++i) {
    SCOPED_TRACE(i);
    ASSERT_TRUE(apps_[static_cast<size_t>(i)].has_the_weights_of_the_cpu());
    ASSERT_TRUE(apps_[static_cast<size_t>(i)].answers_as_the_cpu());
    synchronize(i);
  }
  EXPECT_LE(device_bytes() - before, bytes_at_most()) << "who has not written has no copy";
}

}  // namespace
}  // namespace djinn::testing
