// SPDX-License-Identifier: Apache-2.0
#include "examples/sampler.h"

#include <algorithm>

#include <torch/utils.h>

namespace djinn::examples {

at::Tensor sample(const at::Tensor& logits, const Sampling& sampling) {
  torch::NoGradGuard no_grad;
  if (sampling.temperature <= 0.0) return at::argmax(logits, 1);
  const auto scaled = logits.to(at::kFloat) / sampling.temperature;
  const int64_t vocabulary = scaled.size(1);
  const bool all = sampling.top_k <= 0 && sampling.top_p >= 1.0;
  if (all) return at::multinomial(at::softmax(scaled, 1), 1).view({1});

  const int64_t kept = sampling.top_k > 0 ? std::min(sampling.top_k, vocabulary) : vocabulary;
  const auto [best, ids] = at::topk(scaled, kept, 1);  // Sorted, largest first.
  auto probability = at::softmax(best, 1);
  if (sampling.top_p < 1.0) {
    const auto before =
        at::cumsum(probability, 1) - probability;  // 0 for the first, which is always kept.
    probability = probability.masked_fill(before > sampling.top_p, 0.0);
  }
  return ids.gather(1, at::multinomial(probability, 1)).view({1});
}

}  // namespace djinn::examples
