// SPDX-License-Identifier: Apache-2.0
// Tenants that decode with the same weights on a server that runs them together: each gets the
// tokens it gets alone, whoever joins, leaves or fails beside it.
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <sstream>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "tests/support/http_peer.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

constexpr int64_t kWidth = 512;
constexpr int64_t kWords = 600;
constexpr int kLayers = 2;
constexpr size_t kTenants = 4;
constexpr size_t kAhead = 8;

// A program that exists only here: two layers of attention over a cache that grows, products of all
// kinds (linear, mm, addmm, matmul), of odd widths too.
struct Weights {
  explicit Weights(uint64_t seed) {
    at::manual_seed(seed);
    const auto random = [](int64_t rows, int64_t columns) {
      return at::randn({rows, columns}) / std::sqrt(static_cast<double>(columns));
    };
    words = at::randn({kWords, kWidth});
    for (Layer& layer : layers) {
      layer.q = random(kWidth, kWidth);
      layer.kv = random(2 * kWidth, kWidth);
      layer.o = random(kWidth, kWidth);
      layer.up = random(kWidth, 577);
      layer.up_bias = at::randn({577});
      layer.down = random(577, kWidth);
    }
    out = random(kWords, kWidth);
  }
  [[nodiscard]] Weights to(at::Device device) const {
    Weights copy = *this;
    copy.words = words.to(device);
    copy.out = out.to(device);
    for (Layer& layer : copy.layers) {
      for (at::Tensor* each :
           {&layer.q, &layer.kv, &layer.o, &layer.up, &layer.up_bias, &layer.down}) {
        *each = each->to(device);
      }
    }
    return copy;
  }
  struct Layer {
    at::Tensor q, kv, o, up, up_bias, down;
  };
  at::Tensor words, out;
  std::array<Layer, kLayers> layers;
};

class Writer {
 public:
  Writer(const Weights& weights, at::Device device, int64_t first)
      : weights_(weights), token_(at::full({1}, first, at::kLong).to(device)) {}

  void advance() {
    at::Tensor x = weights_.words.index_select(0, token_);
    for (size_t i = 0; i < kLayers; ++i) {
      const Weights::Layer& layer = weights_.layers[i];
      const at::Tensor query = at::linear(x, layer.q);
      const at::Tensor row = at::linear(x, layer.kv);
      caches_[i] = caches_[i].defined() ? at::cat({caches_[i], row}, 0) : row;
      const at::Tensor keys = caches_[i].narrow(1, 0, kWidth);
      const at::Tensor values = caches_[i].narrow(1, kWidth, kWidth);
      const at::Tensor weight = at::softmax(query.mm(keys.t()) / 22.0, 1);
      x = at::layer_norm(x + at::matmul(weight.mm(values), layer.o), {kWidth});
      x = at::layer_norm(x + at::mm(at::gelu(at::addmm(layer.up_bias, x, layer.up)), layer.down),
                         {kWidth});
    }
    logits_ = at::linear(x, weights_.out);
    token_ = logits_.argmax(1);
  }
  // The next step begins with this token.
  void say(const at::Tensor& token) { token_ = token; }
  [[nodiscard]] const at::Tensor& logits() const { return logits_; }
  [[nodiscard]] const at::Tensor& token() const { return token_; }

 private:
  const Weights& weights_;
  at::Tensor token_;
  at::Tensor logits_;
  std::array<at::Tensor, kLayers> caches_;
};

struct Text {
  std::vector<int64_t> tokens;
  std::vector<at::Tensor> logits;
};
// Reads every few steps, so that there is a step that waits whoever has the machine.
Text write(const Weights& weights, at::Device device, int64_t first, int steps) {
  const at::NoGradGuard no_grad;
  Writer writer(weights, device, first);
  Text out;
  std::vector<std::pair<at::Tensor, at::Tensor>> ahead;
  for (int i = 0; i < steps; ++i) {
    writer.advance();
    if (device.is_privateuseone()) djinn::flush(device.index());
    ahead.emplace_back(writer.logits(), writer.token());
    if (ahead.size() < kAhead && i + 1 < steps) continue;
    for (const auto& [logits, token] : ahead) {
      out.logits.push_back(logits.cpu());
      out.tokens.push_back(token.item<int64_t>());
    }
    ahead.clear();
  }
  return out;
}

double difference(const Text& a, const Text& b) {
  double out = 0;
  for (size_t i = 0; i < std::min(a.logits.size(), b.logits.size()); ++i) {
    out = std::max(out, (a.logits[i] - b.logits[i]).abs().max().item<double>());
  }
  return out;
}

class LockstepServer {
 public:
  explicit LockstepServer(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"--device",    "cpu",        "--threads",  "1",
                                       "--log-level", "warn",       "--lockstep", "4",
                                       "--admin",     admin_.text()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    server_ = std::make_unique<ServerProcess>(arguments);
    std::string addresses = server_->address();
    for (size_t i = 1; i < kTenants; ++i) addresses += "," + server_->address();
    djinn::connect({.server = addresses});
  }
  [[nodiscard]] uint64_t metric(const std::string& name) const {
    std::istringstream lines(http_body(admin_, "/metrics"));
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("djinn_" + name + " ")) return std::stoull(line.substr(name.size() + 7));
    }
    ADD_FAILURE() << "there is no metric " << name;
    return 0;
  }
  // Which steps meet is the machine's affair: again, until so many have.
  template <typename Once>
  void until_groups(uint64_t wanted, const Once& once) const {
    constexpr int kTries = 20;
    for (int i = 0; i < kTries && groups() < wanted; ++i) once();
    EXPECT_GE(groups(), wanted);
  }
  // Second copies of the weights, which only groups multiply by.
  [[nodiscard]] uint64_t packed_bytes() const { return metric("lockstep_packed_bytes"); }
  [[nodiscard]] uint64_t groups() const { return metric("lockstep_groups_total"); }
  // The weights on every session; what the first sent is verified before the others ask for it.
  [[nodiscard]] std::vector<Weights> spread(const Weights& weights) const {
    std::vector<Weights> out;
    for (size_t i = 0; i < kTenants; ++i) {
      out.push_back(weights.to(device(i)));
      djinn::synchronize(static_cast<int>(i));
      if (i == 0) wait_until_shared();
    }
    return out;
  }
  // All weights of one program but the biases, which are too short to be shared.
  void wait_until_shared() const {
    constexpr uint64_t kTensors = 2 + 5 * kLayers;
    for (int i = 0; i < 3000 && metric("artifacts") < kTensors; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_GE(metric("artifacts"), kTensors);
  }
  static at::Device device(size_t tenant) { return at::Device("djinn:" + std::to_string(tenant)); }

 private:
  const transport::Address admin_{
      .kind = transport::Address::Kind::kUnix,
      .host = ::testing::TempDir() + "djinn-lockstep-" + std::to_string(getpid()) + ".sock"};
  std::unique_ptr<ServerProcess> server_;
};

// All tenants at once, each on a thread of its own, until all have ended.
template <typename Body>
void each_tenant(const Body& body) {
  std::vector<std::jthread> threads;
  threads.reserve(kTenants);
  for (size_t i = 0; i < kTenants; ++i) {
    threads.emplace_back([&body, i] {
      at::set_num_threads(1);
      body(i);
    });
  }
}

class LockstepTokens : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { at::set_num_threads(1); }
  const Weights weights_{7};
};

TEST_F(LockstepTokens, TenantsThatJoinAndLeaveGetTheTokensTheyGetAlone) {
  const LockstepServer server;
  const std::vector<Weights> spread = server.spread(weights_);
  const std::array<int, kTenants> steps{120, 80, 160, 60};
  std::array<Text, kTenants> alone;
  for (size_t i = 0; i < kTenants; ++i) {
    alone[i] = write(weights_, at::kCPU, static_cast<int64_t>(17 * i), steps[i]);
  }
  double largest = 0;
  server.until_groups(6, [&] {
    std::array<Text, kTenants> together;
    each_tenant([&](size_t i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5 * i));  // The others are amid steps.
      together[i] =
          write(spread[i], LockstepServer::device(i), static_cast<int64_t>(17 * i), steps[i]);
    });
    for (size_t i = 0; i < kTenants; ++i) {
      EXPECT_EQ(together[i].tokens, alone[i].tokens) << "tenant " << i;
      largest = std::max(largest, difference(together[i], alone[i]));
    }
  });
  const uint64_t groups = server.groups();
  std::printf("largest difference of a logit: %g; %lu groups of %.1f jobs\n", largest, groups,
              static_cast<double>(server.metric("lockstep_jobs_total")) /
                  static_cast<double>(std::max<uint64_t>(groups, 1)));
  EXPECT_LT(largest, 1e-3);
  EXPECT_GT(server.metric("lockstep_operators_total"), 10 * groups) << "of thirteen in a step";
  EXPECT_GT(server.packed_bytes(), 0U);
}

TEST_F(LockstepTokens, TheErrorOfOneLeavesTheOthersWhole) {
  const LockstepServer server;
  const std::vector<Weights> spread = server.spread(weights_);
  constexpr int kSteps = 80;
  const Text alone = write(weights_, at::kCPU, 5, kSteps);
  std::array<Text, kTenants> together;
  std::string error;
  server.until_groups(6, [&] {
    error.clear();
    each_tenant([&](size_t i) {
      if (i > 0) {
        together[i] = write(spread[i], LockstepServer::device(i), 5, kSteps);
        return;
      }
      const at::NoGradGuard no_grad;
      const at::Device device = LockstepServer::device(i);
      Writer writer(spread[i], device, 5);
      const at::Tensor bad = at::full({1}, 2 * kWords, at::kLong).to(device);
      for (int step = 0; step < kSteps; ++step) {
        // From the middle on there is no such word: only the server can find that out.
        if (step == kSteps / 2) writer.say(bad);
        writer.advance();
        try {
          (void)writer.token().item<int64_t>();
        } catch (const c10::Error& e) {
          error = e.what_without_backtrace();
        }
      }
    });
    EXPECT_NE(error.find("index"), std::string::npos) << error;
    for (size_t i = 1; i < kTenants; ++i) EXPECT_EQ(together[i].tokens, alone.tokens) << i;
  });
}

TEST_F(LockstepTokens, WorksWhereTheWeightsDoNotFitTheDevice) {
  const LockstepServer server({"--device-memory", "6MiB"});
  const std::vector<Weights> spread = server.spread(weights_);
  constexpr int kSteps = 25;
  const Text alone = write(weights_, at::kCPU, 5, kSteps);
  server.until_groups(3, [&] {
    std::array<Text, kTenants> together;
    each_tenant(
        [&](size_t i) { together[i] = write(spread[i], LockstepServer::device(i), 5, kSteps); });
    for (const Text& each : together) EXPECT_EQ(each.tokens, alone.tokens);
  });
}

TEST_F(LockstepTokens, OtherWeightsAreNotMixed) {
  const LockstepServer server;
  const Weights other(8);
  std::vector<Weights> spread = server.spread(weights_);
  spread[3] = other.to(LockstepServer::device(3));
  constexpr int kSteps = 25;
  const Text alone = write(weights_, at::kCPU, 5, kSteps);
  const Text of_other = write(other, at::kCPU, 5, kSteps);
  std::array<Text, kTenants> together;
  each_tenant(
      [&](size_t i) { together[i] = write(spread[i], LockstepServer::device(i), 5, kSteps); });
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(together[i].tokens, alone.tokens) << i;
  EXPECT_EQ(together[3].tokens, of_other.tokens);
  EXPECT_EQ(difference(together[3], of_other), 0) << "it ran alone";
}

}  // namespace
}  // namespace djinn::testing
