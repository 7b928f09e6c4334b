// SPDX-License-Identifier: Apache-2.0
// Nothing is computed in the client's process: every operator on the device runs on the server.
#include <set>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/nn.h>
#include <torch/optim.h>

#include "client/djinn.h"
#include "examples/generation.h"
#include "tests/integration/operator_watch.h"
#include "tests/integration/programs.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

// What the client may do with bytes that it fetched, or with geometry: no arithmetic.
const std::set<std::string>& allowed() {
  static const std::set<std::string> names{
      // Room for what is fetched.
      "aten::empty", "aten::empty_strided",
      // Another element type or layout than that of the bytes on the server.
      "aten::copy_", "aten::to", "aten::_to_copy",
      // A number out of fetched bytes.
      "aten::item", "aten::_local_scalar_dense",
      // Geometry.
      "aten::detach", "aten::as_strided", "aten::view"};
  return names;
}

void expect_nothing_computed(const OperatorWatch::Counts& counts) {
  for (const auto& [name, count] : counts) {
    EXPECT_TRUE(allowed().contains(name.substr(0, name.find(' '))))
        << name << " ran " << count << " times on the CPU";
  }
}

class NoCompute : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);
    server_ = std::make_unique<ServerProcess>(std::vector<std::string>{"--threads", "1"});
    djinn::connect({.server = server_->address()});
  }
  static void TearDownTestSuite() { server_.reset(); }

  // Runs it under watch: the server must have run as many operators as the program called, and the
  // CPU none.
  template <typename Program>
  void watch(const Program& program) {
    const uint64_t executed = server_stats().ops_executed;
    OperatorWatch::Counts remote;
    {
      const OperatorWatch watching;
      program();
      expect_nothing_computed(watching.by_client());
      expect_nothing_computed(watching.by_app());
      remote = watching.remote();
    }
    const ServerStats now = server_stats();
    EXPECT_GT(sum(remote), 0U);
    EXPECT_EQ(now.ops_executed - executed, sum(remote)) << text(remote);
    EXPECT_EQ(now.ops_failed, 0U);
  }

  const at::Device device_{"djinn"};

 private:
  static std::unique_ptr<ServerProcess> server_;
};
std::unique_ptr<ServerProcess> NoCompute::server_;

TEST_F(NoCompute, WhileATrainingStepIsRecorded) {
  torch::nn::Sequential network(torch::nn::Linear(8, 16), torch::nn::ReLU(),
                                torch::nn::Linear(16, 4));
  network->to(device_);
  torch::optim::Adam optimizer(network->parameters(), torch::optim::AdamOptions(1e-2));
  const auto x = torch::randn({32, 8}).to(device_);
  const auto y = torch::randint(0, 4, {32}).to(device_);
  watch([&] {
    for (int step = 0; step < 3; ++step) {
      optimizer.zero_grad();
      auto loss = torch::nn::functional::cross_entropy(network->forward(x), y);
      loss.backward();
      torch::nn::utils::clip_grad_norm_(network->parameters(), 0.5);
      optimizer.step();
      EXPECT_GT(loss.item<double>(), 0);
    }
  });
}

TEST_F(NoCompute, WhileADecoderGenerates) {
  using examples::Decoder;
  using examples::KvKind;
  using examples::Llama;
  using examples::LlamaConfig;
  const auto model = Llama::random(LlamaConfig::tiny(), 7, device_);
  for (const auto kv : {KvKind::kCat, KvKind::kStatic}) {
    Decoder decoder(model, kv, 32);
    decoder.start(std::vector<int64_t>{3, 1, 4, 1, 5});
    watch([&] {
      for (int step = 0; step < 8; ++step) {
        decoder.advance();
        EXPECT_GE(decoder.token().item<int64_t>(), 0);
      }
      EXPECT_EQ(decoder.logits().to(at::kDouble).cpu().dim(), 2);
    });
  }
}

// The app computes on the CPU here as well, so only what happens inside of operators on the device
// is judged.
class NoComputeIn : public NoCompute, public ::testing::WithParamInterface<Program> {};

TEST_P(NoComputeIn, TheClient) {
  const OperatorWatch watching;
  for (const at::Tensor& result : GetParam().run(device_)) (void)result.detach().cpu();
  expect_nothing_computed(watching.by_client());
  EXPECT_GT(sum(watching.remote()), 0U);
}

const auto kName = [](const auto& param) { return param.param.name; };
INSTANTIATE_TEST_SUITE_P(Modules, NoComputeIn, ::testing::ValuesIn(module_programs()), kName);
INSTANTIATE_TEST_SUITE_P(Tensors, NoComputeIn, ::testing::ValuesIn(tensor_programs()), kName);
INSTANTIATE_TEST_SUITE_P(Training, NoComputeIn, ::testing::ValuesIn(training_programs()), kName);

TEST_F(NoCompute, IsNotBelievedWithoutAWatchThatSees) {
  const OperatorWatch watching;
  const auto host = at::ones({4}) * 3;
  EXPECT_GE(watching.by_app().at("aten::mul"), 1U);
  EXPECT_EQ(watching.remote().size(), 0U);
}

}  // namespace
}  // namespace djinn::testing
