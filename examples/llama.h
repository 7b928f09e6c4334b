// SPDX-License-Identifier: Apache-2.0
// Llama: a decoder-only transformer of the Llama family in plain LibTorch, for one sequence at a
// time.
//
// It knows a device only as a torch::Device. A step has no data-dependent decision and no
// read-back: it takes token ids on the device and gives logits on the device, so an asynchronous
// device is never waited for. Every decode step consists of the same operators in the same order;
// only lengths differ, and with a static cache not even those. Ownership: weights are tensors;
// copies of a Llama share them. Threading: const members may be called by many threads, a KvCache
// belongs to one sequence and one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <torch/types.h>

namespace djinn::examples {

struct LlamaConfig {
  int64_t hidden = 0;
  int64_t ffn = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_width = 0;
  int64_t vocabulary = 0;
  int64_t positions = 0;
  double norm_epsilon = 1e-5;
  double rope_base = 10000.0;

  static LlamaConfig read(const std::filesystem::path& config_json);  // Throws std::runtime_error.
  static LlamaConfig
  tiny();  // Many small layers: the cost of a step is the cost of its operators, not of arithmetic.
};

// How keys and values of earlier positions are kept: kCat grows a tensor by concatenation; kStatic
// writes into one that was allocated for all positions and masks the rest.
enum class KvKind { kCat, kStatic };

class KvCache {
 public:
  // `positions` bounds the sequence, prompt included; only kStatic allocates for it.
  KvCache(const LlamaConfig& config, KvKind kind, int64_t positions,
          const at::TensorOptions& options);

  [[nodiscard]] KvKind kind() const { return kind_; }
  [[nodiscard]] int64_t length() const { return length_; }

 private:
  friend class Llama;

  KvKind kind_;
  int64_t positions_;
  int64_t length_ = 0;
  std::vector<at::Tensor> keys_;    // Per layer: [1, kv_heads, length or positions, head_width];
                                    // kCat: undefined at first.
  std::vector<at::Tensor> values_;  // The same.
  at::Tensor
      next_position_;  // kStatic: [1], on the device, so that a step needs no number from the host.
  at::Tensor all_positions_;  // kStatic: 0, 1, ..., positions - 1, to compare with.
  at::Tensor no_mask_;        // kStatic: [1, positions] zeros, to put a mask into.
};

class Llama {
 public:
  // Weights of model.safetensors in `folder`, moved to the device as they are and converted there.
  static Llama load(const std::filesystem::path& folder, at::Device device,
                    at::ScalarType dtype = at::kFloat);

  // Random weights from a seed, the same on every device: they are drawn on the CPU.
  static Llama random(const LlamaConfig& config, uint64_t seed, at::Device device,
                      at::ScalarType dtype = at::kFloat);

  [[nodiscard]] const LlamaConfig& config() const { return config_; }
  [[nodiscard]] at::TensorOptions options() const { return embedding_.options(); }
  [[nodiscard]] KvCache make_cache(KvKind kind, int64_t positions) const;

  // One step: `ids` [T] int64 on the device extend the sequence. The logits [1, vocabulary] of its
  // last position. A step of T > 1 tokens must be the first of its sequence. No gradients are kept.
  // Throws std::length_error beyond the cache's positions.
  [[nodiscard]] at::Tensor step(const at::Tensor& ids, KvCache& cache) const;

 private:
  struct Layer {
    at::Tensor attention_norm, q, k, v, o;
    at::Tensor ffn_norm, gate, up, down;
  };
  // What all layers of one step share.
  struct Frame {
    at::Tensor cosine, sine;  // [T, head_width]; the sine carries the sign of the rotation.
    at::Tensor position;      // kStatic: [T]
    at::Tensor mask;  // kStatic: [T, positions], -inf where a query may not look. One for all
                      // layers: made from booleans, attention would convert it in each of them.
  };

  // Takes a weight by name and shape; load() and random() differ only in where it comes from.
  using Source = std::function<at::Tensor(const std::string& name, at::IntArrayRef shape)>;

  Llama(const LlamaConfig& config, const at::TensorOptions& options);
  void fill(const Source& source);
  [[nodiscard]] Frame begin(int64_t tokens, KvCache& cache) const;
  [[nodiscard]] at::Tensor attend(const Layer& layer, size_t index, const at::Tensor& x,
                                  const Frame& frame, KvCache& cache) const;
  [[nodiscard]] at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const;

  LlamaConfig config_;
  at::Tensor embedding_;      // [vocabulary, hidden]; also the output projection.
  at::Tensor final_norm_;     // [hidden]
  at::Tensor cosine_, sine_;  // [positions, head_width]
  std::vector<Layer> layers_;
};

}  // namespace djinn::examples
