// SPDX-License-Identifier: Apache-2.0
#include "examples/llama.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include <torch/utils.h>

#include "examples/safetensors.h"

namespace djinn::examples {
namespace {

void check_config(const LlamaConfig& config) {
  const bool sound = config.hidden > 0 && config.ffn > 0 && config.layers > 0 &&
                     config.kv_heads > 0 && config.vocabulary > 0 && config.positions > 0 &&
                     config.heads > 0 && config.heads % config.kv_heads == 0 &&
                     config.head_width > 0 && config.head_width % 2 == 0;
  if (!sound) throw std::runtime_error("sizes of the model do not fit together");
}

}  // namespace

LlamaConfig LlamaConfig::read(const std::filesystem::path& config_json) {
  std::ifstream file(config_json);
  if (!file) throw std::runtime_error(config_json.string() + ": cannot be read");
  try {
    const auto json = nlohmann::json::parse(file);
    if (json.at("model_type") != "llama" || !json.at("tie_word_embeddings").get<bool>()) {
      throw std::runtime_error("only models of type llama with tied embeddings are known");
    }
    LlamaConfig config;
    config.hidden = json.at("hidden_size").get<int64_t>();
    config.ffn = json.at("intermediate_size").get<int64_t>();
    config.layers = json.at("num_hidden_layers").get<int64_t>();
    config.heads = json.at("num_attention_heads").get<int64_t>();
    config.kv_heads = json.at("num_key_value_heads").get<int64_t>();
    config.head_width = json.at("head_dim").get<int64_t>();
    config.vocabulary = json.at("vocab_size").get<int64_t>();
    config.positions = json.at("max_position_embeddings").get<int64_t>();
    config.norm_epsilon = json.at("rms_norm_eps").get<double>();
    config.rope_base = json.at("rope_theta").get<double>();
    check_config(config);
    return config;
  } catch (const std::exception& error) {
    throw std::runtime_error(config_json.string() + ": " + error.what());
  }
}

LlamaConfig LlamaConfig::tiny() {
  return {.hidden = 16,
          .ffn = 32,
          .layers = 30,
          .heads = 2,
          .kv_heads = 1,
          .head_width = 8,
          .vocabulary = 64,
          .positions = 512};
}

KvCache::KvCache(const LlamaConfig& config, KvKind kind, int64_t positions,
                 const at::TensorOptions& options)
    : kind_(kind),
      positions_(positions),
      keys_(static_cast<size_t>(config.layers)),
      values_(static_cast<size_t>(config.layers)) {
  if (positions < 1 || positions > config.positions) {
    throw std::length_error("the model has " + std::to_string(config.positions) +
                            " positions, not " + std::to_string(positions));
  }
  if (kind_ == KvKind::kCat) return;
  for (size_t i = 0; i < keys_.size(); ++i) {
    keys_[i] = at::zeros({1, config.kv_heads, positions, config.head_width}, options);
    values_[i] = at::zeros({1, config.kv_heads, positions, config.head_width}, options);
  }
  next_position_ = at::zeros({1}, options.dtype(at::kLong));
  all_positions_ = at::arange(positions, options.dtype(at::kLong));
  no_mask_ = at::zeros({1, positions}, options);
}

Llama::Llama(const LlamaConfig& config, const at::TensorOptions& options) : config_(config) {
  check_config(config);
  // Angles in fp32 as in training, then rounded to the model's type. Rotating (a, b) to (a cos - b
  // sin, b cos + a sin) is x * cos + swapped(x) * sin once the sign of the first half is part of
  // the sine.
  const auto fp32 = options.dtype(at::kFloat);
  const auto even = at::arange(0, config.head_width, 2, fp32);
  const auto frequency =
      at::pow(config.rope_base, even / static_cast<double>(config.head_width)).reciprocal();
  const auto angle = at::outer(at::arange(config.positions, fp32), frequency);
  const auto sine = angle.sin();
  cosine_ = at::cat({angle, angle}, 1).cos().to(options.dtype());
  sine_ = at::cat({-sine, sine}, 1).to(options.dtype());
}

Llama Llama::load(const std::filesystem::path& folder, at::Device device, at::ScalarType dtype) {
  torch::NoGradGuard no_grad;
  const auto config = LlamaConfig::read(folder / "config.json");
  const Safetensors file(folder / "model.safetensors");
  Llama model(config, at::TensorOptions().device(device).dtype(dtype));
  model.fill([&](const std::string& name, at::IntArrayRef shape) {
    const auto tensor = file.get(name);
    if (tensor.sizes() != shape)
      throw std::runtime_error(name + " does not have the shape that config.json says");
    return tensor.to(device).to(dtype);
  });
  return model;
}

Llama Llama::random(const LlamaConfig& config, uint64_t seed, at::Device device,
                    at::ScalarType dtype) {
  torch::NoGradGuard no_grad;
  Llama model(config, at::TensorOptions().device(device).dtype(dtype));
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  model.fill([&](const std::string&, at::IntArrayRef shape) {
    if (shape.size() == 1) return at::ones(shape).to(device).to(dtype);
    const double scale = 1.0 / std::sqrt(static_cast<double>(shape[1]));
    return at::randn(shape, generator).mul_(scale).to(device).to(dtype);
  });
  return model;
}

void Llama::fill(const Source& source) {
  const int64_t q_width = config_.heads * config_.head_width;
  const int64_t kv_width = config_.kv_heads * config_.head_width;
  embedding_ = source("model.embed_tokens.weight", {config_.vocabulary, config_.hidden});
  for (int64_t i = 0; i < config_.layers; ++i) {
    const auto take = [&](const std::string& name, at::IntArrayRef shape) {
      return source("model.layers." + std::to_string(i) + "." + name + ".weight", shape);
    };
    Layer layer;
    layer.attention_norm = take("input_layernorm", {config_.hidden});
    layer.q = take("self_attn.q_proj", {q_width, config_.hidden});
    layer.k = take("self_attn.k_proj", {kv_width, config_.hidden});
    layer.v = take("self_attn.v_proj", {kv_width, config_.hidden});
    layer.o = take("self_attn.o_proj", {config_.hidden, q_width});
    layer.ffn_norm = take("post_attention_layernorm", {config_.hidden});
    layer.gate = take("mlp.gate_proj", {config_.ffn, config_.hidden});
    layer.up = take("mlp.up_proj", {config_.ffn, config_.hidden});
    layer.down = take("mlp.down_proj", {config_.hidden, config_.ffn});
    layers_.push_back(std::move(layer));
  }
  final_norm_ = source("model.norm.weight", {config_.hidden});
}

KvCache Llama::make_cache(KvKind kind, int64_t positions) const {
  torch::NoGradGuard no_grad;
  return {config_, kind, positions, options()};
}

at::Tensor Llama::norm(const at::Tensor& x, const at::Tensor& weight) const {
  return at::rms_norm(x, {config_.hidden}, weight, config_.norm_epsilon);
}

Llama::Frame Llama::begin(int64_t tokens, KvCache& cache) const {
  if (tokens > 1 && cache.length_ > 0)
    throw std::length_error("only the first step may have several tokens");
  if (cache.length_ + tokens > cache.positions_)
    throw std::length_error("the sequence is longer than its cache");
  Frame frame;
  if (cache.kind_ == KvKind::kCat) {
    frame.cosine = cosine_.narrow(0, cache.length_, tokens);
    frame.sine = sine_.narrow(0, cache.length_, tokens);
  } else {
    frame.position = tokens == 1 ? cache.next_position_ : cache.all_positions_.narrow(0, 0, tokens);
    frame.cosine = cosine_.index_select(0, frame.position);
    frame.sine = sine_.index_select(0, frame.position);
    const auto later = cache.all_positions_.unsqueeze(0).gt(frame.position.unsqueeze(1));
    frame.mask = cache.no_mask_.masked_fill(later, -std::numeric_limits<double>::infinity());
    cache.next_position_ = cache.next_position_.add(tokens);
  }
  cache.length_ += tokens;
  return frame;
}

at::Tensor Llama::attend(const Layer& layer, size_t index, const at::Tensor& x, const Frame& frame,
                         KvCache& cache) const {
  const int64_t tokens = x.size(0);
  const auto split = [&](const at::Tensor& y,
                         int64_t heads) {  // [T, heads * width] -> [1, heads, T, width]
    return y.view({1, tokens, heads, config_.head_width}).transpose(1, 2);
  };
  const auto rotate = [&](const at::Tensor& y) {
    return (y * frame.cosine).addcmul_(y.roll(config_.head_width / 2, -1), frame.sine);
  };
  const auto q = rotate(split(at::linear(x, layer.q), config_.heads));
  const auto k = rotate(split(at::linear(x, layer.k), config_.kv_heads));
  const auto v = split(at::linear(x, layer.v), config_.kv_heads);
  at::Tensor& keys = cache.keys_[index];
  at::Tensor& values = cache.values_[index];
  if (cache.kind_ == KvKind::kStatic) {
    keys.index_copy_(2, frame.position, k);
    values.index_copy_(2, frame.position, v);
  } else {
    keys = keys.defined() ? at::cat({keys, k}, 2) : k;
    values = values.defined() ? at::cat({values, v}, 2) : v;
  }
  std::optional<at::Tensor> mask;
  if (frame.mask.defined()) mask = frame.mask;
  const bool causal = !mask && tokens > 1;
  const auto y = at::scaled_dot_product_attention(q, keys, values, mask, 0.0, causal, std::nullopt,
                                                  /*enable_gqa=*/true);
  return at::linear(y.transpose(1, 2).reshape({tokens, config_.heads * config_.head_width}),
                    layer.o);
}

at::Tensor Llama::step(const at::Tensor& ids, KvCache& cache) const {
  torch::NoGradGuard no_grad;
  const int64_t tokens = ids.size(0);
  const Frame frame = begin(tokens, cache);
  auto x = at::embedding(embedding_, ids);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    x = x + attend(layer, i, norm(x, layer.attention_norm), frame, cache);
    const auto y = norm(x, layer.ffn_norm);
    x = x + at::linear(at::silu(at::linear(y, layer.gate)) * at::linear(y, layer.up), layer.down);
  }
  return at::linear(norm(x.narrow(0, tokens - 1, 1), final_norm_), embedding_);
}

}  // namespace djinn::examples
