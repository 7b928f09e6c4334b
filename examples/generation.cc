// SPDX-License-Identifier: Apache-2.0
#include "examples/generation.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>

namespace djinn::examples {
namespace {

constexpr int64_t kPositionsStep =
    64;  // Static caches come in such lengths, so similar prompts have equal shapes.

}  // namespace

void Decoder::start(std::span<const int64_t> prompt) {
  if (prompt.empty()) throw std::invalid_argument("an empty prompt has no next token");
  const auto ids = at::tensor(at::ArrayRef<int64_t>(prompt.data(), prompt.size()), at::kLong);
  logits_ = model_->step(ids.to(model_->options().device()), cache_);
  token_ = sample(logits_, sampling_);
}

void Decoder::advance() {
  logits_ = model_->step(token_, cache_);
  token_ = sample(logits_, sampling_);
}

Generation generate(const Llama& model, std::span<const int64_t> prompt,
                    const GenerationOptions& options,
                    const std::function<void(int64_t id)>& on_token) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto since_start = [start] {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };

  Generation result;
  if (options.new_tokens_max < 1) return result;
  int64_t positions = static_cast<int64_t>(prompt.size()) + options.new_tokens_max;
  positions = std::min((positions + kPositionsStep - 1) / kPositionsStep * kPositionsStep,
                       model.config().positions);
  Decoder decoder(model, options.kv, positions, options.sampling);
  std::vector<double> read_s;
  decoder.start(prompt);
  for (int64_t n = 1; n <= options.new_tokens_max; ++n) {
    const at::Tensor token = decoder.token();
    if (n < options.new_tokens_max) decoder.advance();
    const auto id = token.item<int64_t>();
    read_s.push_back(since_start());
    result.ids.push_back(id);
    if (on_token) on_token(id);
    if (id == options.end_id) break;
  }
  result.first_token_s = read_s.front();
  result.total_s = since_start();
  // The last reading is left out: no step was recorded before it, so it comes a step early where
  // recording computes.
  if (read_s.size() > 2) {
    const size_t steps = read_s.size() - 2;
    result.decode_tokens_per_s = static_cast<double>(steps) / (read_s[steps] - read_s[0]);
  }
  return result;
}

}  // namespace djinn::examples
