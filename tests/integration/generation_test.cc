// SPDX-License-Identifier: Apache-2.0
// A decoder on the server gives the logits of the CPU, to the last bit, with both kinds of cache;
// and a step that repeats is not told twice.
#include "examples/generation.h"

#include <cstring>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

using examples::Decoder;
using examples::KvKind;
using examples::Llama;
using examples::LlamaConfig;

const std::vector<int64_t> kPrompt{3, 1, 4, 1, 5, 9, 2, 6, 5};

class Generation : public ::testing::TestWithParam<std::tuple<KvKind, at::ScalarType>> {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);
    server_ = std::make_unique<ServerProcess>(std::vector<std::string>{"--threads", "1"});
    djinn::connect({.server = server_->address()});
  }
  static void TearDownTestSuite() { server_.reset(); }

 private:
  static std::unique_ptr<ServerProcess> server_;
};
std::unique_ptr<ServerProcess> Generation::server_;

TEST_P(Generation, HasTheLogitsOfTheCpuToTheLastBit) {
  const auto [kv, dtype] = GetParam();
  const auto config = LlamaConfig::tiny();
  const auto here = Llama::random(config, 7, at::kCPU, dtype);
  const auto there = Llama::random(config, 7, at::Device("djinn"), dtype);
  Decoder local(here, kv, 64);
  Decoder remote(there, kv, 64);
  local.start(kPrompt);
  remote.start(kPrompt);
  Stats warm;
  constexpr int kSteps = 40;
  for (int step = 0; step < kSteps; ++step) {
    const auto expected = local.logits().contiguous();
    const auto got = remote.logits().cpu().contiguous();
    ASSERT_EQ(got.sizes(), expected.sizes());
    ASSERT_EQ(std::memcmp(got.const_data_ptr(), expected.const_data_ptr(), expected.nbytes()), 0)
        << "step " << step << " differs by " << (got - expected).abs().max();
    ASSERT_EQ(remote.token().item<int64_t>(), local.token().item<int64_t>()) << "step " << step;
    if (step == 10) warm = stats();
    local.advance();
    remote.advance();
  }
  EXPECT_EQ(stats().plans, warm.plans) << "steps are no longer new";
  EXPECT_EQ(stats().shape_questions, warm.shape_questions);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Generation,
                         ::testing::Combine(::testing::Values(KvKind::kCat, KvKind::kStatic),
                                            ::testing::Values(at::kFloat, at::kBFloat16)),
                         [](const auto& param) {
                           return std::string(std::get<0>(param.param) == KvKind::kCat ? "Cat"
                                                                                       : "Static") +
                                  (std::get<1>(param.param) == at::kFloat ? "Float" : "Bfloat16");
                         });

}  // namespace
}  // namespace djinn::testing
