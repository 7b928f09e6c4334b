// SPDX-License-Identifier: Apache-2.0
// Models larger than the device: every layer comes when it is needed, and the results are the same.
#include <cstring>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "client/djinn.h"
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
  EXPECT_EQ(small.sum().item<float>(), 64 * 1024);
}

}  // namespace
}  // namespace djinn::testing
