// SPDX-License-Identifier: Apache-2.0
#include <torch/nn.h>

#include "tests/integration/programs.h"

namespace djinn::testing {
namespace {

namespace nn = torch::nn;
using at::Tensor;
using Results = std::vector<Tensor>;

template <typename Module>
Results finish(Module& module, const Tensor& x, const Tensor& y) {
  y.pow(2).sum().backward();
  Results out{y};
  if (x.requires_grad()) out.push_back(x.grad());
  for (const Tensor& parameter : module->parameters()) out.push_back(parameter.grad());
  for (const Tensor& buffer : module->buffers()) out.push_back(buffer);
  return out;
}

// Makes a module, moves it, runs it forward and backward on a random input of this shape.
template <typename Make>
Program module(const std::string& name, Make make, const std::vector<int64_t>& shape,
               double tolerance = 0) {
  return {name,
          [make, shape](at::Device device) {
            auto layer = make();
            layer->to(device);
            auto x = torch::randn(shape).to(device).requires_grad_();
            return finish(layer, x, layer->forward(x));
          },
          tolerance};
}

template <typename Make>
Program recurrent(const std::string& name, Make make, double tolerance) {
  return {name,
          [make](at::Device device) {
            auto layer = make();
            layer->to(device);
            auto x = torch::randn({3, 2, 5}).to(device).requires_grad_();
            return finish(layer, x, std::get<0>(layer->forward(x)));
          },
          tolerance};
}

Results embedding(at::Device device) {
  nn::Embedding layer(10, 6);
  layer->to(device);
  auto x = torch::tensor({1, 3, 3, 9}).to(device);
  return finish(layer, x, layer->forward(x));
}

Results embedding_bag(at::Device device) {
  nn::EmbeddingBag layer(10, 6);
  layer->to(device);
  auto x = torch::arange(6).view({2, 3}).to(device);
  return finish(layer, x, layer->forward(x));
}

Results multihead(at::Device device) {
  nn::MultiheadAttention layer(nn::MultiheadAttentionOptions(8, 2));
  layer->to(device);
  auto x = torch::randn({3, 2, 8}).to(device).requires_grad_();
  return finish(layer, x, std::get<0>(layer->forward(x, x, x)));
}

Results batch_norm_evaluates(at::Device device) {
  nn::BatchNorm2d layer(4);
  layer->to(device);
  auto x = torch::randn({2, 4, 8, 8}).to(device);
  layer->forward(x);
  layer->eval();
  return {layer->forward(x), layer->running_mean, layer->running_var};
}

Results dropout(at::Device device) {
  nn::Dropout layer(0.5);
  layer->to(device);
  auto x = torch::ones({64, 64}).to(device).requires_grad_();
  torch::manual_seed(11);
  auto y = layer->forward(x);
  y.sum().backward();
  return {y, x.grad()};
}

}  // namespace

std::vector<Program> module_programs() {
  std::vector<Program> all;
  const auto add = [&](Program program) { all.push_back(std::move(program)); };
  add(module("Linear", [] { return nn::Linear(8, 4); }, {3, 8}));
  add(module("Conv1d", [] { return nn::Conv1d(nn::Conv1dOptions(3, 4, 3)); }, {2, 3, 8}));
  add(module("Conv2dStridePadding",
             [] { return nn::Conv2d(nn::Conv2dOptions(3, 4, 3).stride(2).padding(1)); },
             {2, 3, 8, 8}));
  add(module(
      "Conv2dGroupsDilation",
      [] { return nn::Conv2d(nn::Conv2dOptions(4, 4, 3).groups(2).dilation(2).bias(false)); },
      {2, 4, 9, 9}));
  add(module("Conv3d", [] { return nn::Conv3d(nn::Conv3dOptions(2, 3, 2)); }, {2, 2, 4, 4, 4}));
  add(module("ConvTranspose2d",
             [] { return nn::ConvTranspose2d(nn::ConvTranspose2dOptions(3, 4, 3).stride(2)); },
             {2, 3, 5, 5}));
  add(module("BatchNorm1d", [] { return nn::BatchNorm1d(4); }, {6, 4}));
  add(module("BatchNorm2d", [] { return nn::BatchNorm2d(4); }, {2, 4, 8, 8}));
  add({"BatchNormEvaluates", batch_norm_evaluates});
  add(module("LayerNorm", [] { return nn::LayerNorm(nn::LayerNormOptions({8})); }, {2, 4, 8}));
  add(module("GroupNorm", [] { return nn::GroupNorm(nn::GroupNormOptions(2, 4)); }, {2, 4, 8}));
  add(module("InstanceNorm2d",
             [] { return nn::InstanceNorm2d(nn::InstanceNorm2dOptions(4).affine(true)); },
             {2, 4, 8, 8}));
  add({"Embedding", embedding});
  add({"EmbeddingBag", embedding_bag});
  // The CPU runs these cells fused in its own way; ours are made of ATen operators.
  add(recurrent(
      "Lstm", [] { return nn::LSTM(nn::LSTMOptions(5, 6).num_layers(2)); }, 1e-6));
  add(recurrent(
      "Gru", [] { return nn::GRU(nn::GRUOptions(5, 6)); }, 1e-6));
  add(recurrent(
      "RnnTanh", [] { return nn::RNN(nn::RNNOptions(5, 6)); }, 1e-6));
  add({"MultiheadAttention", multihead});
  add(module("TransformerEncoderLayer",
             [] {
               return nn::TransformerEncoderLayer(
                   nn::TransformerEncoderLayerOptions(8, 2).dim_feedforward(16).dropout(0.0));
             },
             {3, 2, 8}));
  // The CPU multiplies by a mask of reciprocals, the fused operator by mask and reciprocal.
  add({"Dropout", dropout, 1e-6, true});
  add(module("MaxPool2d", [] { return nn::MaxPool2d(nn::MaxPool2dOptions(2)); }, {2, 3, 8, 8}));
  add(module("AvgPool2d", [] { return nn::AvgPool2d(nn::AvgPool2dOptions(2)); }, {2, 3, 8, 8}));
  add(module("AdaptiveAvgPool2d",
             [] {
               return nn::AdaptiveAvgPool2d(nn::AdaptiveAvgPool2dOptions({3, 3}));
             },
             {2, 3, 8, 8}));
  add(module("PReLU", [] { return nn::PReLU(); }, {4, 5}));
  return all;
}

}  // namespace djinn::testing
