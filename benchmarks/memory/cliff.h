// SPDX-License-Identifier: Apache-2.0
// The workload of the cliff: a training step of the feed-forward half of MiniLM-L6 (six blocks of
// 384 x 1536, the shapes of sentence-transformers/all-MiniLM-L6-v2), whose activations grow with
// the batch. Threading: one thread.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace djinn::benchmarks {

class FeedForward {
 public:
  static constexpr int64_t kHidden = 384;
  static constexpr int64_t kInner = 1536;
  static constexpr int kBlocks = 6;
  static constexpr int64_t kSequence = 32;  // tokens of a sample

  // Weights from a fixed seed, moved to the device.
  explicit FeedForward(const at::Device& device);
  // Forward, loss, backward, gradients dropped; the loss. Throws c10::OutOfMemoryError.
  double step(int64_t batch);
  // Gradients of a step that was broken off are no start for the next.
  void drop_gradients();

 private:
  at::Device device_;
  std::vector<at::Tensor> up_;
  std::vector<at::Tensor> down_;
};

}  // namespace djinn::benchmarks
