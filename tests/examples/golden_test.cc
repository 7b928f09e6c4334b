// SPDX-License-Identifier: Apache-2.0
// The example's model gives token for token what Hugging Face's gives (tests/golden/make_golden.py
// says how that was made). DJINN_GOLDEN_ALL=1 runs all prompts with both caches;
// DJINN_GOLDEN_DEVICE names another device than the CPU.
#include "tests/examples/golden.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "examples/generation.h"
#include "examples/llama.h"

namespace djinn::examples {
namespace {

constexpr size_t kStaticPrompts =
    3;  // By default; a prompt takes seconds, and the other seven add little.

class Golden : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!model_is_there()) return;
    at::set_num_threads(1);  // Sums are split by threads, and the golden ones were not.
    const char* device = variable("DJINN_GOLDEN_DEVICE");
    model() = std::make_unique<Llama>(
        Llama::load(model_folder(), at::Device(device != nullptr ? device : "cpu")));
  }
  static void TearDownTestSuite() { model().reset(); }
  void SetUp() override {
    if (!model_is_there()) GTEST_SKIP() << no_model();
  }

  static std::unique_ptr<Llama>& model() {
    static std::unique_ptr<Llama> model;
    return model;
  }

  static void expect_golden_tokens(KvKind kind, size_t prompts_max) {
    const auto prompts = golden("smollm2_greedy.json").at("prompts");
    ASSERT_GE(prompts.size(), 10U);
    for (size_t i = 0; i < std::min(prompts.size(), prompts_max); ++i) {
      const auto expected = prompts[i].at("ids").get<std::vector<int64_t>>();
      const auto prompt = prompts[i].at("prompt_ids").get<std::vector<int64_t>>();
      const auto made = generate(
          *model(), prompt, {.kv = kind, .new_tokens_max = static_cast<int64_t>(expected.size())});
      const auto differ = std::ranges::mismatch(made.ids, expected);
      EXPECT_EQ(made.ids, expected)
          << "prompt " << i << " differs from token " << (differ.in1 - made.ids.begin())
          << "; the smallest margin of its logits is " << prompts[i].at("smallest_margin") << " at "
          << prompts[i].at("smallest_margin_at");
    }
  }
};

TEST_F(Golden, TokensWithAGrowingCache) { expect_golden_tokens(KvKind::kCat, SIZE_MAX); }

TEST_F(Golden, TokensWithAStaticCache) {
  expect_golden_tokens(KvKind::kStatic,
                       variable("DJINN_GOLDEN_ALL") != nullptr ? SIZE_MAX : kStaticPrompts);
}

}  // namespace
}  // namespace djinn::examples
