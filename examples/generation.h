// SPDX-License-Identifier: Apache-2.0
// Decoder: one sequence in the making, with its cache and its newest token, all on the device.
// generate(): the loop around it, which reads a token only when the step that needs it is already
// on its way.
//
// Why in this order: a device that works by itself then never waits for the host to read, print and
// record. When the end token is read, one surplus step has been recorded; its result is dropped.
// Ownership: borrows the model. Threading: one thread per Decoder.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include <torch/types.h>

#include "examples/llama.h"
#include "examples/sampler.h"

namespace djinn::examples {

class Decoder {
 public:
  Decoder(const Llama& model, KvKind kind, int64_t positions, const Sampling& sampling = {})
      : model_(&model), cache_(model.make_cache(kind, positions)), sampling_(sampling) {}

  void start(std::span<const int64_t> prompt);  // The first step: the whole prompt.
  void advance();                               // One more token, from the newest.

  // Of the newest step, not yet read: the token [1] int64 and the logits [1, vocabulary] it was
  // taken from.
  [[nodiscard]] const at::Tensor& token() const { return token_; }
  [[nodiscard]] const at::Tensor& logits() const { return logits_; }
  [[nodiscard]] int64_t length() const { return cache_.length(); }

 private:
  const Llama* model_;
  KvCache cache_;
  Sampling sampling_;
  at::Tensor token_;
  at::Tensor logits_;
};

struct GenerationOptions {
  KvKind kv = KvKind::kCat;
  Sampling sampling{};
  int64_t new_tokens_max = 128;
  int64_t end_id = -1;  // Generation stops after this token; negative: never before new_tokens_max.
};

struct Generation {
  std::vector<int64_t> ids;  // With the end token, if it came.
  double first_token_s = 0;  // From the call to the first token read.
  double total_s = 0;
  double decode_tokens_per_s =
      0;  // Of the steps after the first token; 0 if there were fewer than three tokens.
};

Generation generate(const Llama& model, std::span<const int64_t> prompt,
                    const GenerationOptions& options,
                    const std::function<void(int64_t id)>& on_token = {});

}  // namespace djinn::examples
