// SPDX-License-Identifier: Apache-2.0
#include "examples/llama.h"

#include <cstdint>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include "examples/generation.h"
#include "examples/sampler.h"

namespace djinn::examples {
namespace {

const std::vector<int64_t> kPrompt = {3, 1, 4, 1, 5, 9, 2, 6};

class LlamaOfKind : public ::testing::TestWithParam<KvKind> {
 protected:
  static void SetUpTestSuite() { at::set_num_threads(1); }  // Idle ones would only spin.
  static Llama tiny() { return Llama::random(LlamaConfig::tiny(), 7, at::kCPU); }
};

INSTANTIATE_TEST_SUITE_P(Kv, LlamaOfKind, ::testing::Values(KvKind::kCat, KvKind::kStatic),
                         [](const auto& tested) {
                           return tested.param == KvKind::kCat ? "Cat" : "Static";
                         });

// The names of all operators that run, the composite ones included.
class OperatorLog {
 public:
  OperatorLog() {
    names().clear();
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback([](const at::RecordFunction& f)
                                       -> std::unique_ptr<at::ObserverContext> {
          names().emplace_back(f.name());
          return nullptr;
        }).scopes({at::RecordScope::FUNCTION}));
  }
  ~OperatorLog() { at::removeCallback(handle_); }
  OperatorLog(const OperatorLog&) = delete;
  OperatorLog& operator=(const OperatorLog&) = delete;

  static std::vector<std::string>& names() {
    static std::vector<std::string> names;
    return names;
  }

 private:
  at::CallbackHandle handle_;
};

TEST_P(LlamaOfKind, GivesTheSameLogitsInStepsAsAtOnce) {
  const Llama model = tiny();
  auto cache = model.make_cache(GetParam(), 32);
  at::Tensor stepwise;
  for (const int64_t id : kPrompt) stepwise = model.step(at::tensor({id}), cache);
  auto fresh = model.make_cache(GetParam(), 32);
  const auto at_once = model.step(at::tensor(kPrompt), fresh);
  EXPECT_EQ(at_once.sizes(), at::IntArrayRef({1, LlamaConfig::tiny().vocabulary}));
  EXPECT_TRUE(at::allclose(stepwise, at_once, 1e-4, 1e-5)) << (stepwise - at_once).abs().max();
}

TEST_P(LlamaOfKind, TakesTheSameOperatorsInEveryStep) {
  const Llama model = tiny();
  Decoder decoder(model, GetParam(), 64);
  decoder.start(kPrompt);
  std::vector<std::string> first;
  for (int step = 0; step < 5; ++step) {
    const OperatorLog log;
    decoder.advance();
    if (step == 0) first = OperatorLog::names();
    EXPECT_EQ(OperatorLog::names(), first) << "step " << step;
  }
  std::map<std::string, int> counts;
  for (const auto& name : first) ++counts[name];
  RecordProperty("operators", static_cast<int>(first.size()));
  for (const char* waits :
       {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero"}) {
    EXPECT_EQ(counts[waits], 0) << waits << " would read back within a step";
  }
  if (std::getenv("DJINN_PRINT_OPERATORS") != nullptr) {  // NOLINT(concurrency-mt-unsafe)
    for (const auto& [name, count] : counts) std::printf("%5d %s\n", count, name.c_str());
  }
}

TEST_P(LlamaOfKind, SeesNothingOfLaterPositions) {
  const Llama model = tiny();
  auto cache = model.make_cache(GetParam(), 32);
  auto longer = model.make_cache(GetParam(), 64);
  EXPECT_TRUE(at::allclose(model.step(at::tensor(kPrompt), cache),
                           model.step(at::tensor(kPrompt), longer), 1e-4, 1e-5));
}

TEST_P(LlamaOfKind, RefusesToRunPastItsCache) {
  const Llama model = tiny();
  auto cache = model.make_cache(GetParam(), 9);
  (void)model.step(at::tensor(kPrompt), cache);
  (void)model.step(at::tensor({int64_t{1}}), cache);
  EXPECT_THROW((void)model.step(at::tensor({int64_t{1}}), cache), std::length_error);
  EXPECT_THROW((void)model.make_cache(GetParam(), LlamaConfig::tiny().positions + 1),
               std::length_error);
}

TEST(Llama, DrawsTheSameWeightsFromTheSameSeed) {
  const auto logits = [](uint64_t seed) {
    const auto model = Llama::random(LlamaConfig::tiny(), seed, at::kCPU);
    auto cache = model.make_cache(KvKind::kCat, 16);
    return model.step(at::tensor(kPrompt), cache);
  };
  EXPECT_TRUE(at::equal(logits(1), logits(1)));
  EXPECT_FALSE(at::equal(logits(1), logits(2)));
}

TEST(Llama, GeneratesTheSameTokensWithBothCaches) {
  const auto model = Llama::random(LlamaConfig::tiny(), 3, at::kCPU);
  const auto cat = generate(model, kPrompt, {.kv = KvKind::kCat, .new_tokens_max = 40});
  const auto kept = generate(model, kPrompt, {.kv = KvKind::kStatic, .new_tokens_max = 40});
  EXPECT_EQ(cat.ids.size(), 40U);
  EXPECT_EQ(cat.ids, kept.ids);
}

TEST(Llama, StopsAfterTheEndToken) {
  const auto model = Llama::random(LlamaConfig::tiny(), 3, at::kCPU);
  const auto all = generate(model, kPrompt, {.new_tokens_max = 40});
  std::vector<int64_t> seen;
  const auto stopped = generate(model, kPrompt, {.new_tokens_max = 40, .end_id = all.ids[5]},
                                [&](int64_t id) { seen.push_back(id); });
  EXPECT_LE(stopped.ids.size(), 6U);
  EXPECT_EQ(stopped.ids.back(), all.ids[5]);
  EXPECT_EQ(seen, stopped.ids);
}

TEST(Sampler, TakesTheLikeliestAtTemperatureZero) {
  EXPECT_EQ(sample(at::tensor({0.1F, 3.0F, 2.9F}).view({1, 3}), {}).item<int64_t>(), 1);
}

TEST(Sampler, DrawsOnlyFromWhatTopKAndTopPLeave) {
  const auto logits = at::tensor({0.6F, 0.25F, 0.1F, 0.05F}).log().view({1, 4});
  const auto drawn = [&](const Sampling& sampling) {
    torch::manual_seed(11);
    std::map<int64_t, int> counts;
    for (int i = 0; i < 2000; ++i) ++counts[sample(logits, sampling).item<int64_t>()];
    return counts;
  };
  EXPECT_EQ(drawn({.temperature = 1.0}).size(), 4U);
  EXPECT_NEAR(drawn({.temperature = 1.0})[0], 1200, 100);
  EXPECT_EQ(drawn({.temperature = 1.0, .top_k = 2}).size(), 2U);
  EXPECT_EQ(drawn({.temperature = 1.0, .top_p = 0.7}).size(), 2U)
      << "0.6 is less than 0.7, 0.85 is not";
  EXPECT_EQ(drawn({.temperature = 1.0, .top_p = 0.0}).size(), 1U);
  EXPECT_EQ(drawn({.temperature = 0.8, .top_k = 3, .top_p = 0.99}).size(), 3U);
  EXPECT_EQ(drawn({.temperature = 1.3, .top_k = 4}), drawn({.temperature = 1.3, .top_k = 4}))
      << "same seed";
}

}  // namespace
}  // namespace djinn::examples
