// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "benchmarks/memory/cliff.h"

namespace djinn::benchmarks {

FeedForward::FeedForward(const at::Device& device) : device_(device) {
  at::manual_seed(7);
  for (int i = 0; i < kBlocks; ++i) {
    up_.push_back((at::randn({kInner, kHidden}) / std::sqrt(kHidden)).to(device).requires_grad_());
    down_.push_back((at::randn({kHidden, kInner}) / std::sqrt(kInner)).to(device).requires_grad_());
  }
}

double FeedForward::step(int64_t batch) {
  at::manual_seed(11);
  at::Tensor x = at::randn({batch * kSequence, kHidden}).to(device_);
  for (int i = 0; i < kBlocks; ++i) {
    const auto block = static_cast<size_t>(i);
    x = x + at::linear(at::gelu(at::linear(x, up_[block])), down_[block]);
  }
  at::Tensor loss = x.square().mean();
  x = at::Tensor();
  loss.backward();
  double gradient = 0;
  for (auto* weights : {&up_, &down_}) {
    for (at::Tensor& weight : *weights) {
      // A gradient takes part in what is compared; all of them have to exist at once, as for an
      // optimizer.
      gradient = weight.grad().select(0, 0).abs().sum().item<double>();
    }
  }
  drop_gradients();
  return loss.item<double>() + gradient;
}

void FeedForward::drop_gradients() {
  for (auto* weights : {&up_, &down_}) {
    for (at::Tensor& weight : *weights) weight.mutable_grad() = at::Tensor();
  }
}

}  // namespace djinn::benchmarks
