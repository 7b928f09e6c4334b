// SPDX-License-Identifier: Apache-2.0
#include "client/torch/shape_rules.h"

#include <algorithm>
#include <unordered_map>

#include <ATen/EmptyTensor.h>
#include <ATen/ExpandUtils.h>
#include <ATen/TensorIterator.h>
#include <ATen/ops/result_type_native.h>
#include <c10/core/WrapDimMinimal.h>

namespace djinn::client {
namespace {

using Kind = PredictedResult::Kind;

PredictedResult contiguous(c10::IntArrayRef sizes, c10::ScalarType type) {
  PredictedResult out;
  out.type = type;
  out.sizes.append(sizes.begin(), sizes.end());
  out.strides.resize(sizes.size());
  int64_t stride = 1;
  for (size_t d = sizes.size(); d-- > 0;) {
    out.strides[d] = stride;
    stride *= std::max<int64_t>(sizes[d], 1);
  }
  return out;
}

PredictedResult undefined() {
  PredictedResult out;
  out.kind = Kind::kUndefined;
  return out;
}

PredictedResult integer(int64_t value) {
  PredictedResult out;
  out.kind = Kind::kInt;
  out.value = value;
  return out;
}

// As at::empty_like with preserve_format.
PredictedResult like(const at::Tensor& tensor) {
  if (!tensor.defined()) return undefined();
  PredictedResult out;
  out.type = tensor.scalar_type();
  out.sizes.append(tensor.sizes().begin(), tensor.sizes().end());
  if (tensor.is_non_overlapping_and_dense()) {
    out.strides.append(tensor.strides().begin(), tensor.strides().end());
  } else {
    const auto strides = at::infer_dense_strides(tensor.sizes(), tensor.strides());
    out.strides.append(strides.begin(), strides.end());
  }
  return out;
}

const at::Tensor& tensor(const Stack& stack, size_t i) { return stack[i].toTensor(); }

bool embedding(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& weight = tensor(stack, begin);
  auto sizes = tensor(stack, begin + 1).sizes().vec();
  for (int64_t d = 1; d < weight.dim(); ++d) sizes.push_back(weight.size(d));
  out.push_back(contiguous(sizes, weight.scalar_type()));
  return true;
}

bool index_select(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& self = tensor(stack, begin);
  if (self.dim() == 0) return false;
  auto sizes = self.sizes().vec();
  const auto dim = c10::maybe_wrap_dim(stack[begin + 1].toInt(), self.dim());
  sizes[static_cast<size_t>(dim)] = tensor(stack, begin + 2).numel();
  out.push_back(contiguous(sizes, self.scalar_type()));
  return true;
}

bool layer_norm(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& input = tensor(stack, begin);
  if (!input.is_contiguous() ||
      (input.scalar_type() != c10::kFloat && input.scalar_type() != c10::kDouble)) {
    return false;  // Mixed types keep their statistics in float.
  }
  const size_t normalised = stack[begin + 1].toIntVector().size();
  auto sizes = input.sizes().vec();
  if (normalised > sizes.size()) return false;
  out.push_back(contiguous(sizes, input.scalar_type()));
  for (size_t i = 0; i < normalised; ++i) sizes[sizes.size() - 1 - i] = 1;
  out.push_back(contiguous(sizes, input.scalar_type()));
  out.push_back(out.back());
  return true;
}

// The fused attention: output laid out like the query, log-sum-exp in float, the random state
// empty.
bool attention(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& query = tensor(stack, begin);
  const at::Tensor& key = tensor(stack, begin + 1);
  const at::Tensor& value = tensor(stack, begin + 2);
  const int64_t batch = query.size(0);
  const int64_t heads = query.size(1);
  const int64_t rows = query.size(2);
  const auto statistics = query.scalar_type() == c10::kDouble ? c10::kDouble : c10::kFloat;
  out.push_back(value.size(3) == query.size(3)
                    ? like(query)
                    : contiguous({batch, heads, rows, value.size(3)}, query.scalar_type()));
  PredictedResult log_sum = contiguous({batch, rows, heads}, statistics);
  std::swap(log_sum.sizes[1], log_sum.sizes[2]);
  std::swap(log_sum.strides[1], log_sum.strides[2]);
  out.push_back(std::move(log_sum));
  out.push_back(undefined());
  out.push_back(undefined());
  out.push_back(integer(rows));
  out.push_back(integer(key.size(2)));
  out.push_back(contiguous({}, c10::kLong));
  out.push_back(contiguous({}, c10::kLong));
  out.push_back(undefined());
  return true;
}

bool attention_backward(const Stack& stack, size_t begin, Prediction& out) {
  const auto wanted = stack[begin + 5].toBoolList();
  for (size_t i = 0; i < 4; ++i) {
    const at::Tensor& of = tensor(stack, begin + 1 + i);
    out.push_back(wanted[i] && of.defined() ? like(of) : undefined());
  }
  return true;
}

// What an elementwise kernel returns: PyTorch's iterator says so, of tensors without bytes.
PredictedResult elementwise(std::initializer_list<at::Tensor> operands, c10::ScalarType type) {
  at::TensorIteratorConfig config;
  config.check_all_same_dtype(false)
      .declare_static_dtype_and_device(type, c10::kMeta)
      .add_owned_output(at::Tensor());
  for (const at::Tensor& each : operands) {
    config.add_owned_const_input(
        at::detail::empty_strided_meta(each.sizes(), each.strides(), each.scalar_type()));
  }
  const at::TensorIterator iterator = config.build();
  PredictedResult out;
  out.type = type;
  out.sizes.append(iterator.output().sizes().begin(), iterator.output().sizes().end());
  out.strides.append(iterator.output().strides().begin(), iterator.output().strides().end());
  return out;
}

bool where(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& left = tensor(stack, begin + 1);
  const at::Tensor& right = tensor(stack, begin + 2);
  out.push_back(
      elementwise({tensor(stack, begin), left, right}, at::native::result_type(left, right)));
  return true;
}

bool unary(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& self = tensor(stack, begin);
  out.push_back(elementwise({self}, self.scalar_type()));
  return true;
}

bool lstm_cell(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& gates = tensor(stack, begin);
  const at::Tensor& cell = tensor(stack, begin + 2);
  out.push_back(contiguous(cell.sizes(), cell.scalar_type()));
  out.push_back(out.back());
  out.push_back(contiguous(gates.sizes(), gates.scalar_type()));
  return true;
}

bool lstm_cell_backward(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& cell = tensor(stack, begin + 2);
  const at::Tensor& workspace = tensor(stack, begin + 4);
  const bool has_bias = stack[begin + 5].toBool();
  out.push_back(contiguous(workspace.sizes(), workspace.scalar_type()));
  out.push_back(contiguous(cell.sizes(), cell.scalar_type()));
  out.push_back(has_bias ? contiguous({workspace.size(1)}, workspace.scalar_type()) : undefined());
  return true;
}

bool gru_cell(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& hidden = tensor(stack, begin + 2);
  out.push_back(contiguous(hidden.sizes(), hidden.scalar_type()));
  out.push_back(contiguous({hidden.size(0), hidden.size(1) * 5}, hidden.scalar_type()));
  return true;
}

bool gru_cell_backward(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& hidden = tensor(stack, begin);
  const auto type = hidden.scalar_type();
  const int64_t batch = hidden.size(0);
  const int64_t width = hidden.size(1);
  const bool has_bias = stack[begin + 2].toBool();
  out.push_back(contiguous({batch, 3 * width}, type));
  out.push_back(out.back());
  out.push_back(contiguous({batch, width}, type));
  for (int i = 0; i < 2; ++i) {
    out.push_back(has_bias ? contiguous({3 * width}, type) : undefined());
  }
  return true;
}

bool repeat(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& self = tensor(stack, begin);
  auto sizes = stack[begin + 1].toIntVector();
  const auto rank = static_cast<size_t>(self.dim());
  if (sizes.size() < rank) return false;
  for (size_t d = 0; d < rank; ++d) sizes[sizes.size() - rank + d] *= self.sizes()[d];
  if (std::any_of(sizes.begin(), sizes.end(), [](int64_t size) { return size < 0; })) return false;
  out.push_back(contiguous(sizes, self.scalar_type()));
  return true;
}

// A mask that is larger than self enlarges the result.
bool masked_fill(const Stack& stack, size_t begin, Prediction& out) {
  const at::Tensor& self = tensor(stack, begin);
  const auto sizes = at::infer_size(self.sizes(), tensor(stack, begin + 1).sizes());
  out.push_back(contiguous(sizes, self.scalar_type()));
  return true;
}

}  // namespace

Rule shape_rule(const std::string& name) {
  static const std::unordered_map<std::string, Rule> rules{
      {"aten::embedding", embedding},
      {"aten::index_select", index_select},
      {"aten::native_layer_norm", layer_norm},
      {"aten::_scaled_dot_product_fused_attention_overrideable", attention},
      {"aten::_scaled_dot_product_fused_attention_overrideable_backward", attention_backward},
      {"aten::where.self", where},
      {"aten::_thnn_fused_lstm_cell", lstm_cell},
      {"aten::_thnn_fused_lstm_cell_backward_impl", lstm_cell_backward},
      {"aten::_thnn_fused_gru_cell", gru_cell},
      {"aten::_thnn_fused_gru_cell_backward", gru_cell_backward},
      {"aten::relu", unary},
      {"aten::masked_fill.Scalar", masked_fill},
      {"aten::repeat", repeat},
      {"aten::conj_physical_", unary},
  };
  const auto found = rules.find(name);
  return found == rules.end() ? nullptr : found->second;
}

}  // namespace djinn::client
