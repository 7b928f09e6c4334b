// SPDX-License-Identifier: Apache-2.0
// The same program on the CPU and on a real server gives the same: forward, backward, layouts.
#include <algorithm>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include "client/djinn.h"
#include "tests/integration/programs.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

class Server : public ::testing::Environment {
 public:
  void SetUp() override {
    at::set_num_threads(1);
    process_ = std::make_unique<ServerProcess>(std::vector<std::string>{"--threads", "1"});
    djinn::connect({.server = process_->address()});
  }
  void TearDown() override { process_.reset(); }

 private:
  std::unique_ptr<ServerProcess> process_;
};
const auto* const kServer = ::testing::AddGlobalTestEnvironment(new Server);

class Parity : public ::testing::TestWithParam<Program> {};

// All element types that are compared become double, or complex double seen as doubles.
at::Tensor comparable(const at::Tensor& tensor) {
  auto host = tensor.detach().cpu();
  if (host.is_complex()) host = at::view_as_real(host.resolve_conj());
  return host.to(at::kDouble);
}

// A GPU's kernels sum in another order than the CPU's, which shows in the last bits of the largest.
double allowed(const Program& program, const at::Tensor& expected) {
  if (server_device() == "cpu") return program.tolerance;
  const auto sizes = at::where(expected.isfinite(), expected.abs(), at::ones({}, at::kDouble));
  return std::max(program.tolerance, 1e-4 * std::max(1.0, sizes.max().item<double>()));
}

TEST_P(Parity, GivesWhatTheCpuGives) {
  const Program& program = GetParam();
  if (program.is_random && server_device() != "cpu") {
    GTEST_SKIP() << server_device() << " draws other random numbers than the CPU";
  }
  torch::manual_seed(3);
  const auto expected = program.run(at::kCPU);
  torch::manual_seed(3);
  const auto got = program.run(at::Device("djinn"));
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    SCOPED_TRACE("result " + std::to_string(i));
    ASSERT_EQ(got[i].sizes(), expected[i].sizes());
    EXPECT_EQ(got[i].scalar_type(), expected[i].scalar_type());
    EXPECT_EQ(got[i].strides(), expected[i].strides());
    const auto a = comparable(got[i]);
    const auto b = comparable(expected[i]);
    if (a.numel() == 0) continue;
    const auto difference = at::where(a.eq(b).logical_or(a.isnan().logical_and(b.isnan())),
                                      at::zeros({}, at::kDouble), (a - b).abs());
    EXPECT_LE(difference.max().item<double>(), allowed(program, b));
  }
}

const auto kName = [](const auto& param) { return param.param.name; };
INSTANTIATE_TEST_SUITE_P(Modules, Parity, ::testing::ValuesIn(module_programs()), kName);
INSTANTIATE_TEST_SUITE_P(Tensors, Parity, ::testing::ValuesIn(tensor_programs()), kName);
INSTANTIATE_TEST_SUITE_P(Training, Parity, ::testing::ValuesIn(training_programs()), kName);

}  // namespace
}  // namespace djinn::testing
