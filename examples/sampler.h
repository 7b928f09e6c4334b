// SPDX-License-Identifier: Apache-2.0
// Sampler: from logits to the next token, on the device where the logits are.
//
// Why on the device: 8 bytes come back per token instead of a vocabulary of floats, and the next
// step can be on its way before they do. Random numbers come from the device's default generator
// (torch::manual_seed).
#pragma once

#include <cstdint>

#include <torch/types.h>

namespace djinn::examples {

struct Sampling {
  double temperature = 0.0;  // 0: the likeliest token.
  int64_t top_k = 0;         // 0: all tokens.
  double top_p = 1.0;        // The fewest tokens whose probability reaches it; 1: all.
};

// logits [1, vocabulary] -> token [1] int64, both on the device.
at::Tensor sample(const at::Tensor& logits, const Sampling& sampling);

}  // namespace djinn::examples
