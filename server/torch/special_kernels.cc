// SPDX-License-Identifier: Apache-2.0
#include "server/torch/special_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <utility>

#include <ATen/ATen.h>

namespace djinn::server {
namespace {

using at::Tensor;
using c10::IValue;
using std::optional;

Tensor tensor(const Stack& stack, size_t i) {
  return stack[i].isNone() ? Tensor() : stack[i].toTensor();
}
optional<Tensor> maybe_tensor(const Stack& stack, size_t i) {
  const Tensor given = tensor(stack, i);
  return given.defined() ? optional(given) : std::nullopt;
}
optional<double> maybe_double(const Stack& stack, size_t i) {
  return stack[i].isNone() ? std::nullopt : optional(stack[i].toDouble());
}

// -- attention: the kernel that at::scaled_dot_product_attention takes on the CPU. It trusts its
// callers with shapes, so they are checked here.

void check_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                     const optional<Tensor>& mask) {
  TORCH_CHECK(query.defined() && key.defined() && value.defined(), "attention needs all three");
  TORCH_CHECK(query.dim() == 4 && key.dim() == 4 && value.dim() == 4,
              "attention wants 4-D tensors");
  TORCH_CHECK(query.scalar_type() == key.scalar_type() &&
                  query.scalar_type() == value.scalar_type() && query.is_floating_point(),
              "attention wants floating-point tensors of one type");
  TORCH_CHECK(key.size(0) == query.size(0) && value.size(0) == query.size(0) &&
                  key.size(1) == value.size(1) && key.size(1) > 0 && query.numel() > 0 &&
                  query.size(1) % key.size(1) == 0 && key.size(2) == value.size(2) &&
                  key.size(2) > 0 && key.size(3) == query.size(3) && value.size(3) == query.size(3),
              "attention of ", query.sizes(), ", ", key.sizes(), ", ", value.sizes());
  if (!mask) return;
  TORCH_CHECK(mask->dim() == 2 || mask->dim() == 4, "attention mask of ", mask->sizes());
  const std::array<int64_t, 4> want{query.size(0), query.size(1), query.size(2), key.size(2)};
  for (int64_t d = 1; d <= mask->dim(); ++d) {
    const int64_t size = mask->size(-d);
    TORCH_CHECK(size == 1 || size == want[static_cast<size_t>(4 - d)], "attention mask of ",
                mask->sizes());
  }
}

void attention(Stack& stack) {
  const Tensor query = tensor(stack, 0);
  const Tensor key = tensor(stack, 1);
  const Tensor value = tensor(stack, 2);
  const auto mask = maybe_tensor(stack, 3);
  check_attention(query, key, value, mask);
  auto [out, log_sum] = at::_scaled_dot_product_flash_attention_for_cpu(
      query, key, value, stack[4].toDouble(), stack[5].toBool(), mask, maybe_double(stack, 7));
  const auto zero = [] { return at::zeros({}, at::kLong); };
  stack.clear();
  stack.insert(stack.end(), {IValue(std::move(out)), IValue(std::move(log_sum)), IValue(Tensor()),
                             IValue(Tensor()), IValue(query.size(2)), IValue(key.size(2)),
                             IValue(zero()), IValue(zero()), IValue(Tensor())});
}

void check_gradient(const Tensor& grad, const Tensor& query, const Tensor& out,
                    const Tensor& log_sum, bool mask_wanted) {
  TORCH_CHECK(
      grad.defined() && out.defined() && log_sum.defined() && grad.sizes() == query.sizes() &&
          out.sizes() == query.sizes() && grad.scalar_type() == query.scalar_type() &&
          out.scalar_type() == query.scalar_type() && log_sum.sizes() == query.sizes().slice(0, 3),
      "attention backward: gradient, output and query do not belong together");
  TORCH_CHECK(
      log_sum.scalar_type() == (query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat),
      "attention backward: a log-sum-exp of type ", log_sum.scalar_type());
  TORCH_CHECK(!mask_wanted, "attention has no gradient for its mask");
}

// What the kernel of the gradient takes, checked.
struct BackwardArguments {
  Tensor grad, query, key, value;
  std::optional<Tensor> mask;
  c10::List<bool> wanted;
  Tensor out, log_sum;
};

BackwardArguments backward_arguments(const Stack& stack) {
  BackwardArguments args{.grad = tensor(stack, 0),
                         .query = tensor(stack, 1),
                         .key = tensor(stack, 2),
                         .value = tensor(stack, 3),
                         .mask = maybe_tensor(stack, 4),
                         .wanted = stack[5].toBoolList(),
                         .out = tensor(stack, 6),
                         .log_sum = tensor(stack, 7)};
  check_attention(args.query, args.key, args.value, args.mask);
  check_gradient(args.grad, args.query, args.out, args.log_sum, args.wanted[3]);
  return args;
}

void attention_backward(Stack& stack) {
  const auto [grad, query, key, value, mask, wanted, out, log_sum] = backward_arguments(stack);
  auto [grad_query, grad_key, grad_value] =
      at::_scaled_dot_product_flash_attention_for_cpu_backward(
          grad, query, key, value, out, log_sum, stack[12].toDouble(), stack[13].toBool(), mask,
          maybe_double(stack, 16));
  const std::array<bool, 3> want{wanted[0], wanted[1], wanted[2]};
  stack.clear();
  stack.emplace_back(want[0] ? std::move(grad_query) : Tensor());
  stack.emplace_back(want[1] ? std::move(grad_key) : Tensor());
  stack.emplace_back(want[2] ? std::move(grad_value) : Tensor());
  stack.emplace_back(Tensor());
}

// -- the same attention from plain operators, a slice of the query's rows at a time, so that the
// scores of a long prompt need not be in memory all at once.

constexpr int64_t kScoresMax = int64_t{1} << 26;  // elements

struct PlainAttention {
  PlainAttention(const Tensor& q, const Tensor& k, const Tensor& v, const optional<Tensor>& m,
                 bool is_causal, optional<double> given_scale)
      : type(q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat),
        groups(q.size(1) / k.size(1)),
        causal(is_causal),
        scale(given_scale ? *given_scale : 1.0 / std::sqrt(static_cast<double>(q.size(3)))),
        query(q.to(type)),
        key(spread(k)),
        value(spread(v)),
        mask(m) {
    const int64_t per_row = std::max<int64_t>(1, q.size(0) * q.size(1) * k.size(2));
    rows_at_once = std::max<int64_t>(1, kScoresMax / per_row);
  }

  // Each head of keys and values serves as many heads of the query.
  [[nodiscard]] Tensor spread(const Tensor& heads) const {
    const Tensor wide = heads.to(type);
    return groups == 1 ? wide : wide.repeat_interleave(groups, 1);
  }
  // The gradient of `spread`, in the type of the tensor it was given.
  [[nodiscard]] Tensor gather(const Tensor& grad, const Tensor& like) const {
    const Tensor all = groups == 1 ? grad : grad.unflatten(1, {like.size(1), groups}).sum(2);
    return all.to(like.scalar_type());
  }

  // Scores of rows [first, first + count).
  [[nodiscard]] Tensor scores(int64_t first, int64_t count) const {
    Tensor scores = at::matmul(query.narrow(2, first, count) * scale, key.transpose(2, 3));
    if (causal) {
      const auto options = scores.options().dtype(at::kLong);
      const Tensor row = at::arange(first, first + count, options).unsqueeze(1);
      scores.masked_fill_(at::arange(key.size(2), options).unsqueeze(0) > row, -HUGE_VAL);
    }
    if (mask) {
      const Tensor part = mask->size(-2) == 1 ? *mask : mask->narrow(-2, first, count);
      if (part.scalar_type() == at::kBool) {
        scores.masked_fill_(part.logical_not(), -HUGE_VAL);
      } else {
        scores.add_(part);
      }
    }
    return scores;
  }

  template <typename Body>
  void each_slice(Body body) const {
    for (int64_t first = 0; first < query.size(2); first += rows_at_once) {
      body(first, std::min(rows_at_once, query.size(2) - first));
    }
  }

  at::ScalarType type;
  int64_t groups;
  bool causal;
  double scale;
  Tensor query;
  Tensor key;
  Tensor value;
  optional<Tensor> mask;
  int64_t rows_at_once = 1;
};

// A row that sees nothing has log-sum-exp -inf; its probabilities are all 0.
Tensor probabilities(const Tensor& scores, const Tensor& log_sum) {
  const Tensor finite = at::where(at::isinf(log_sum), at::zeros_like(log_sum), log_sum);
  return (scores - finite.unsqueeze(-1)).exp_();
}

void plain_attention(Stack& stack) {
  const Tensor query = tensor(stack, 0);
  const Tensor key = tensor(stack, 1);
  const Tensor value = tensor(stack, 2);
  const auto mask = maybe_tensor(stack, 3);
  check_attention(query, key, value, mask);
  TORCH_CHECK(stack[4].toDouble() == 0, "attention with dropout is recorded in parts");
  const PlainAttention plain(query, key, value, mask, stack[5].toBool(), maybe_double(stack, 7));
  Tensor out = at::empty_like(query);
  Tensor log_sum =
      at::empty({query.size(0), query.size(2), query.size(1)}, query.options().dtype(plain.type))
          .transpose(1, 2);
  plain.each_slice([&](int64_t first, int64_t count) {
    const Tensor scores = plain.scores(first, count);
    const Tensor sums = scores.logsumexp(-1);
    log_sum.narrow(2, first, count).copy_(sums);
    out.narrow(2, first, count).copy_(at::matmul(probabilities(scores, sums), plain.value));
  });
  const auto zero = [&] { return at::zeros({}, query.options().dtype(at::kLong)); };
  stack.clear();
  stack.insert(stack.end(), {IValue(std::move(out)), IValue(std::move(log_sum)), IValue(Tensor()),
                             IValue(Tensor()), IValue(query.size(2)), IValue(key.size(2)),
                             IValue(zero()), IValue(zero()), IValue(Tensor())});
}

void plain_attention_backward(Stack& stack) {
  const BackwardArguments args = backward_arguments(stack);
  TORCH_CHECK(stack[12].toDouble() == 0, "attention with dropout is recorded in parts");
  const PlainAttention plain(args.query, args.key, args.value, args.mask, stack[13].toBool(),
                             maybe_double(stack, 16));
  Tensor grad_query = at::empty_like(args.query);
  Tensor grad_key = at::zeros_like(plain.key);
  Tensor grad_value = at::zeros_like(plain.value);
  plain.each_slice([&](int64_t first, int64_t count) {
    const auto slice = [&](const Tensor& all) { return all.narrow(2, first, count); };
    const Tensor grad_out = slice(args.grad).to(plain.type);
    const Tensor weights = probabilities(plain.scores(first, count), slice(args.log_sum));
    grad_value.add_(at::matmul(weights.transpose(2, 3), grad_out));
    const Tensor drift = (grad_out * slice(args.out)).sum(-1, true);
    const Tensor grad_scores =
        (at::matmul(grad_out, plain.value.transpose(2, 3)) - drift) * weights * plain.scale;
    slice(grad_query).copy_(at::matmul(grad_scores, plain.key));
    grad_key.add_(at::matmul(grad_scores.transpose(2, 3), slice(plain.query)));
  });
  const std::array<bool, 3> want{args.wanted[0], args.wanted[1], args.wanted[2]};
  stack.clear();
  stack.emplace_back(want[0] ? std::move(grad_query) : Tensor());
  stack.emplace_back(want[1] ? plain.gather(grad_key, args.key) : Tensor());
  stack.emplace_back(want[2] ? plain.gather(grad_value, args.value) : Tensor());
  stack.emplace_back(Tensor());
}

// -- cells of recurrent networks: the steps of LibTorch's CPU cells, in their order. The workspace
// goes from forward to backward and its layout is ours.

template <size_t N>
std::array<Tensor, N> split(const Tensor& tensor) {
  TORCH_CHECK(tensor.defined() && tensor.dim() == 2 && tensor.size(1) > 0 &&
                  tensor.size(1) % static_cast<int64_t>(N) == 0,
              "the gates cannot be split");
  std::array<Tensor, N> parts;
  auto chunks = tensor.chunk(static_cast<int64_t>(N), 1);
  std::move(chunks.begin(), chunks.end(), parts.begin());
  return parts;
}

// The CPU's cell adds the bias within the matrix product.
Tensor biased(const Tensor& gates, const Tensor& bias) {
  return bias.defined() ? gates + bias : gates;
}

void lstm_cell(Stack& stack) {
  const Tensor cx = tensor(stack, 2);
  const Tensor gates =
      biased(tensor(stack, 1), tensor(stack, 4)) + biased(tensor(stack, 0), tensor(stack, 3));
  const auto parts = split<4>(gates);
  const Tensor in = parts[0].sigmoid();
  const Tensor forget = parts[1].sigmoid();
  const Tensor cell = parts[2].tanh();
  const Tensor out = parts[3].sigmoid();
  Tensor cy = (forget * cx).add_(in * cell);
  Tensor hy = out * cy.tanh();
  Tensor workspace = at::cat({in, forget, cell, out}, 1);
  stack.clear();
  stack.insert(stack.end(),
               {IValue(std::move(hy)), IValue(std::move(cy)), IValue(std::move(workspace))});
}

void lstm_cell_backward(Stack& stack) {
  const Tensor grad_hy = tensor(stack, 0);
  const Tensor grad_cy = tensor(stack, 1);
  const Tensor cx = tensor(stack, 2);
  const Tensor tanh_cy = tensor(stack, 3).tanh();
  const auto [in, forget, cell, out] = split<4>(tensor(stack, 4));
  const bool has_bias = stack[5].toBool();
  Tensor grad_out;
  Tensor grad_cell_state;
  if (grad_hy.defined()) {
    grad_out = grad_hy * tanh_cy;
    grad_cell_state = at::tanh_backward(grad_hy * out, tanh_cy);
  } else {
    grad_out = at::zeros_like(cx);
    grad_cell_state = at::zeros_like(cx);
  }
  if (grad_cy.defined()) grad_cell_state = grad_cy + grad_cell_state;
  Tensor gates =
      at::cat({at::sigmoid_backward(grad_cell_state * cell, in),
               at::sigmoid_backward(grad_cell_state * cx, forget),
               at::tanh_backward(grad_cell_state * in, cell), at::sigmoid_backward(grad_out, out)},
              1);
  Tensor grad_cx = grad_cell_state * forget;
  Tensor grad_bias = has_bias ? gates.sum(0) : Tensor();
  stack.clear();
  stack.insert(stack.end(), {IValue(std::move(gates)), IValue(std::move(grad_cx)),
                             IValue(std::move(grad_bias))});
}

void gru_cell(Stack& stack) {
  const Tensor hx = tensor(stack, 2);
  const auto in = split<3>(biased(tensor(stack, 0), tensor(stack, 3)));
  const Tensor gates = biased(tensor(stack, 1), tensor(stack, 4));
  const auto hidden = split<3>(gates);
  // Sums and their sigmoids as columns of one matrix, as on the CPU, whose sigmoid rounds rows and
  // whole matrices differently.
  auto sums = split<3>(at::empty_like(gates));
  const Tensor reset = at::add_out(sums[0], hidden[0], in[0]).sigmoid_();
  const Tensor update = at::add_out(sums[1], hidden[1], in[1]).sigmoid_();
  const Tensor candidate = (in[2] + hidden[2] * reset).tanh_();
  Tensor hy = (hx - candidate).mul_(update).add_(candidate);
  Tensor workspace = at::cat({reset, update, candidate, hx, hidden[2]}, 1);
  stack.clear();
  stack.insert(stack.end(), {IValue(std::move(hy)), IValue(std::move(workspace))});
}

void gru_cell_backward(Stack& stack) {
  const Tensor grad = tensor(stack, 0);
  const auto [reset, update, candidate, hx, hidden] = split<5>(tensor(stack, 1));
  const bool has_bias = stack[2].toBool();
  Tensor grad_hx = grad * update;
  const Tensor grad_candidate = at::tanh_backward(grad - grad_hx, candidate);
  const Tensor grad_reset = at::sigmoid_backward(grad_candidate * hidden, reset);
  const Tensor grad_update = at::sigmoid_backward(grad * (hx - candidate), update);
  Tensor in = at::cat({grad_reset, grad_update, grad_candidate}, 1);
  Tensor hidden_gates = at::cat({grad_reset, grad_update, grad_candidate * reset}, 1);
  Tensor in_bias = has_bias ? in.sum(0) : Tensor();
  Tensor hidden_bias = has_bias ? hidden_gates.sum(0) : Tensor();
  stack.clear();
  stack.insert(stack.end(),
               {IValue(std::move(in)), IValue(std::move(hidden_gates)), IValue(std::move(grad_hx)),
                IValue(std::move(in_bias)), IValue(std::move(hidden_bias))});
}

using Named = std::pair<std::string_view, Kernel>;

constexpr Named kCpuKernels[] = {
    {"aten::_scaled_dot_product_fused_attention_overrideable", attention},
    {"aten::_scaled_dot_product_fused_attention_overrideable_backward", attention_backward},
    {"aten::_thnn_fused_gru_cell", gru_cell},
    {"aten::_thnn_fused_gru_cell_backward", gru_cell_backward},
    {"aten::_thnn_fused_lstm_cell", lstm_cell},
    {"aten::_thnn_fused_lstm_cell_backward_impl", lstm_cell_backward},
};

constexpr Named kDeviceKernels[] = {
    {"aten::_scaled_dot_product_fused_attention_overrideable", plain_attention},
    {"aten::_scaled_dot_product_fused_attention_overrideable_backward", plain_attention_backward},
};

Kernel find(std::span<const Named> kernels, std::string_view name) {
  for (const auto& [known, kernel] : kernels) {
    if (known == name) return kernel;
  }
  return nullptr;
}

}  // namespace

Kernel cpu_kernel_of(std::string_view name) { return find(kCpuKernels, name); }

Kernel device_kernel_of(std::string_view name) { return find(kDeviceKernels, name); }

}  // namespace djinn::server
