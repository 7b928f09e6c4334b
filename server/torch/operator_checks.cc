// SPDX-License-Identifier: Apache-2.0
#include "server/torch/operator_checks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>

#include "server/torch/arguments.h"

namespace djinn::server {
namespace {

using at::Tensor;
using std::string_view;

void require(bool condition, string_view what) { TORCH_CHECK(condition, what); }

void same_sizes(const Tensor& a, const Tensor& b) {
  TORCH_CHECK(a.sizes() == b.sizes(), "sizes differ: ", a.sizes(), " and ", b.sizes());
}
void same_type(const Tensor& a, const Tensor& b) {
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "types differ: ", a.scalar_type(), " and ",
              b.scalar_type());
}
void same(const Tensor& a, const Tensor& b) {
  same_sizes(a, b);
  same_type(a, b);
}
void floating(const Tensor& tensor) {
  TORCH_CHECK(tensor.is_floating_point(), "not floating point: ", tensor.scalar_type());
}
void elements(const Tensor& tensor, int64_t count) {
  TORCH_CHECK(!tensor.defined() || tensor.numel() == count, "has ", tensor.numel(),
              " elements instead of ", count);
}
// Every element in [0, end): they are addresses within a tensor.
void indices_below(const Tensor& indices, int64_t end) {
  TORCH_CHECK(indices.scalar_type() == at::kLong || indices.scalar_type() == at::kInt,
              "indices of type ", indices.scalar_type());
  if (indices.numel() == 0) return;
  const auto [least, most] = at::aminmax(indices);
  TORCH_CHECK(least.item<int64_t>() >= 0 && most.item<int64_t>() < end, "an index is not in [0, ",
              end, ")");
}
int64_t product(c10::IntArrayRef sizes) { return c10::multiply_integers(sizes); }

// -- normalisation

void batch_norm(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor input = args.tensor("input");
  require(input.dim() >= 2, "the input needs channels");
  floating(input);
  const int64_t channels = input.size(1);
  const bool training = args.has("training") ? args["training"].toBool()
                        : args.has("train")  ? args["train"].toBool()
                        : args.has("update") ? args["update"].toBool()
                                             : op.name.find("with_update") != std::string::npos;
  for (const string_view name : {"weight", "bias", "running_mean", "running_var"}) {
    const Tensor tensor = args.tensor(name);
    elements(tensor, channels);
    if (tensor.defined())
      require(tensor.dim() == 1 && tensor.is_contiguous(), "statistics are vectors");
  }
  if (args.tensor("weight").defined() && args.tensor("bias").defined()) {
    same_type(args.tensor("weight"), args.tensor("bias"));
  }
  const Tensor mean = args.tensor("running_mean");
  const Tensor var = args.tensor("running_var");
  require(mean.defined() == var.defined(), "running mean and variance belong together");
  if (mean.defined()) same_type(mean, var);
  const bool backward = op.name.find("backward") != std::string::npos;
  const bool normalises = op.name.find("update_stats") == std::string::npos;
  if (!training && normalises) require(mean.defined(), "no statistics to normalise with");
  const Tensor out = args.tensor("out");
  if (out.defined()) same(out, input);
  for (const string_view name : {"save_mean", "save_invstd", "save_var"}) {
    if (!args.has(name)) continue;
    const Tensor saved = args.tensor(name);
    if (backward && training) require(saved.defined(), "no statistics of the forward pass");
    if (saved.defined() && (saved.numel() != 0 || (backward && training)))
      elements(saved, channels);
  }
  if (!backward) return;
  const Tensor grad = args.tensor("grad_out");
  same(grad, input);
}

void layer_norm_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor input = args.tensor("input");
  const auto shape = args.ints("normalized_shape");
  floating(input);
  same(args.tensor("grad_out"), input);
  require(!shape.empty() && static_cast<int64_t>(shape.size()) <= input.dim() &&
              input.sizes().slice(static_cast<size_t>(input.dim()) - shape.size()) ==
                  c10::IntArrayRef(shape),
          "the normalised shape is not the input's");
  const int64_t inner = product(shape);
  const int64_t outer = inner == 0 ? 0 : input.numel() / inner;
  elements(args.tensor("mean"), outer);
  elements(args.tensor("rstd"), outer);
  elements(args.tensor("weight"), inner);
  elements(args.tensor("bias"), inner);
}

void group_norm_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor input = args.tensor("input");
  floating(input);
  same(args.tensor("grad_out"), input);
  const int64_t groups = args["group"].toInt();
  require(groups > 0 && args["C"].toInt() % groups == 0, "the channels cannot be grouped");
  int64_t statistics = 0;
  require(!__builtin_mul_overflow(args["N"].toInt(), groups, &statistics), "too many groups");
  elements(args.tensor("mean"), statistics);
  elements(args.tensor("rstd"), statistics);
}

// The norms of each slice along the first or the last dimension.
void weight_norm(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const bool backward = args.has("saved_v");
  const Tensor v = args.tensor(backward ? "saved_v" : "v");
  const Tensor g = args.tensor(backward ? "saved_g" : "g");
  const int64_t dim = args["dim"].toInt();
  require(v.dim() > 0 && (dim == 0 || dim == v.dim() - 1), "its dimension is the first or last");
  require(v.numel() > 0 && v.is_contiguous() && g.is_contiguous(), "dense tensors are expected");
  floating(v);
  same_type(v, g);
  elements(g, v.size(dim));
  if (!backward) return;
  same(args.tensor("grad_w"), v);
  require(args.tensor("grad_w").is_contiguous(), "dense tensors are expected");
  const Tensor norms = args.tensor("saved_norms");
  elements(norms, v.size(dim));
  require(norms.is_contiguous() && norms.is_floating_point(), "norms are dense and floating point");
}

// -- losses and distances

void ctc_loss(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor log_probs = args.tensor("log_probs");
  const Tensor targets = args.tensor("targets");
  const auto input_lengths = args.ints("input_lengths");
  const auto target_lengths = args.ints("target_lengths");
  require(log_probs.dim() == 3 && log_probs.numel() > 0, "log_probs are [time, batch, classes]");
  floating(log_probs);
  const auto batch = static_cast<size_t>(log_probs.size(1));
  require(input_lengths.size() == batch && target_lengths.size() == batch,
          "one length per sequence");
  require(targets.dim() == 1 || targets.dim() == 2, "targets are vectors or rows");
  indices_below(targets, log_probs.size(2));
  const int64_t blank = args["blank"].toInt();
  require(blank >= 0 && blank < log_probs.size(2), "the blank is a class");
  int64_t sum = 0;
  int64_t longest = 0;
  for (size_t i = 0; i < batch; ++i) {
    require(input_lengths[i] >= 0 && input_lengths[i] <= log_probs.size(0), "a length is too long");
    require(target_lengths[i] >= 0 && target_lengths[i] <= targets.numel(), "a target is too long");
    sum += target_lengths[i];
    longest = std::max(longest, target_lengths[i]);
  }
  if (targets.dim() == 1) {
    require(sum <= targets.numel(), "the targets are too short");
  } else {
    require(targets.size(0) == log_probs.size(1) && longest <= targets.size(1),
            "the targets are too short");
  }
  if (!args.has("log_alpha")) return;
  const Tensor alpha = args.tensor("log_alpha");
  same_type(alpha, log_probs);
  require(alpha.dim() == 3 && alpha.size(0) == log_probs.size(1) &&
              alpha.size(1) == log_probs.size(0) && alpha.size(2) >= 2 * longest + 1,
          "log_alpha is not of this loss");
  for (const string_view name : {"grad", "neg_log_likelihood"}) {
    const Tensor tensor = args.tensor(name);
    same_type(tensor, log_probs);
    require(tensor.dim() == 1 && tensor.size(0) == log_probs.size(1), "one value per sequence");
  }
}

void cdist_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor grad = args.tensor("grad");
  const Tensor left = args.tensor("x1");
  const Tensor right = args.tensor("x2");
  require(left.dim() >= 2 && right.dim() >= 2 && left.size(-1) == right.size(-1),
          "points of one dimension are expected");
  floating(left);
  same_type(left, right);
  same_type(left, grad);
  same(grad, args.tensor("cdist"));
  auto sizes = at::infer_size(left.sizes().slice(0, static_cast<size_t>(left.dim()) - 2),
                              right.sizes().slice(0, static_cast<size_t>(right.dim()) - 2));
  sizes.push_back(left.size(-2));
  sizes.push_back(right.size(-2));
  require(grad.sizes() == c10::IntArrayRef(sizes), "the gradient is not of these distances");
}

void pdist_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor self = args.tensor("self");
  const Tensor grad = args.tensor("grad");
  const Tensor pdist = args.tensor("pdist");
  require(self.dim() == 2 && grad.dim() == 1, "rows of points are expected");
  floating(self);
  require(self.is_contiguous() && pdist.is_contiguous(), "dense tensors are expected");
  same_type(self, grad);
  same(grad, pdist);
  elements(grad, self.size(0) * (self.size(0) - 1) / 2);
}

void smooth_l1_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  floating(args.tensor("self"));
  floating(args.tensor("target"));
  floating(args.tensor("grad_output"));
}

void softmax_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  same(args.tensor("grad_output"), args.tensor("output"));
  floating(args.tensor("output"));
  const Tensor into = args.tensor("out");
  if (into.defined()) same_sizes(into, args.tensor("output"));
}

void masked_softmax_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor output = args.tensor("output");
  floating(output);
  same(args.tensor("grad_output"), output);
  same_sizes(args.tensor("mask"), output);
  require(args.tensor("mask").scalar_type() == at::kBool, "the mask is boolean");
}

// -- pooling, padding, unfolding

std::pair<int64_t, int64_t> planes(const Tensor& tensor, int64_t spatial) {
  require(tensor.dim() == spatial + 1 || tensor.dim() == spatial + 2, "wrong number of dimensions");
  const auto sizes = tensor.sizes();
  const auto split = sizes.size() - static_cast<size_t>(spatial);
  return {product(sizes.slice(0, split)), product(sizes.slice(split))};
}

void leading_sizes(const Tensor& a, const Tensor& b, int64_t spatial) {
  require(a.dim() == b.dim(), "numbers of dimensions differ");
  const auto count = static_cast<size_t>(a.dim() - spatial);
  require(a.sizes().slice(0, count) == b.sizes().slice(0, count), "batch or channels differ");
}

template <int64_t kSpatial>
void average_pool_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor grad = args.tensor("grad_output");
  const Tensor self = args.tensor("self");
  (void)planes(self, kSpatial);
  (void)planes(grad, kSpatial);
  same_type(grad, self);
  floating(self);
  leading_sizes(grad, self, kSpatial);
  require(grad.numel() > 0 && self.numel() > 0, "nothing to distribute");
}

// The indices say where in each plane of the input a maximum was.
template <int64_t kSpatial>
void max_pool_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor grad = args.tensor("grad_output");
  const Tensor self = args.tensor("self");
  const Tensor indices = args.tensor("indices");
  const auto [count, plane] = planes(self, kSpatial);
  (void)count;
  (void)planes(grad, kSpatial);
  same_type(grad, self);
  same_sizes(grad, indices);
  leading_sizes(grad, self, kSpatial);
  require(indices.scalar_type() == at::kLong, "indices are 64-bit");
  if (grad.numel() == 0) return;
  indices_below(indices, plane);
}

template <int64_t kSpatial>
void fractional_pool_backward(const OperatorInfo& op, const Stack& stack) {
  max_pool_backward<kSpatial>(op, stack);
  const Arguments args(op, stack);
  const auto output = args.ints("output_size");
  const auto sizes = args.tensor("grad_output").sizes();
  require(
      output.size() == kSpatial && sizes.slice(sizes.size() - kSpatial) == c10::IntArrayRef(output),
      "the gradient is not of this output");
}

template <int64_t kSpatial>
void pad_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor grad = args.tensor("grad_output");
  const Tensor self = args.tensor("self");
  const auto padding = args.ints("padding");
  (void)planes(self, kSpatial);
  leading_sizes(grad, self, kSpatial);
  same_type(grad, self);
  require(self.numel() > 0, "nothing is padded");
  require(padding.size() == 2 * kSpatial, "two paddings per dimension");
  const bool reflects = op.name.find("reflection") != std::string::npos;
  for (int64_t d = 0; d < kSpatial; ++d) {
    const int64_t before = padding[static_cast<size_t>(2 * d)];
    const int64_t behind = padding[static_cast<size_t>(2 * d + 1)];
    const int64_t size = self.size(-1 - d);
    constexpr int64_t kFar = int64_t{1} << 40;
    require(std::abs(before) < kFar && std::abs(behind) < kFar, "a padding is out of bounds");
    require(!reflects || (before < size && behind < size), "a padding is longer than the input");
    require(grad.size(-1 - d) == size + before + behind && grad.size(-1 - d) > 0,
            "the gradient is not of this padding");
  }
}

void unfold_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor grad = args.tensor("grad_in");
  auto sizes = args.ints("input_sizes");
  const auto rank = static_cast<int64_t>(sizes.size());
  const int64_t size = args["size"].toInt();
  const int64_t step = args["step"].toInt();
  const int64_t dim = at::maybe_wrap_dim(args["dim"].toInt(), rank);
  require(step > 0 && size >= 0, "size and step are positive");
  if (rank > 0) {
    int64_t& folded = sizes[static_cast<size_t>(dim)];
    require(size <= folded, "a window is longer than the input");
    folded = (folded - size) / step + 1;
  }
  sizes.push_back(size);
  require(grad.sizes() == c10::IntArrayRef(sizes), "the gradient is not of these windows");
}

// -- linear algebra, transforms, scans

void cholesky_solve(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor self = args.tensor("self");
  const Tensor factor = args.tensor("A");
  require(self.dim() >= 2 && factor.dim() == self.dim() && factor.size(-1) == factor.size(-2) &&
              factor.size(-1) == self.size(-2),
          "the factor does not belong to these right-hand sides");
  leading_sizes(self, factor, 2);
  same_type(self, factor);
}

void fourier(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor self = args.tensor("self");
  const auto dims = args.ints("dim");
  const bool real = op.name.find("r2c") != std::string::npos;
  require(real ? self.is_floating_point() : self.is_complex(), "the input is of the wrong type");
  require(!dims.empty(), "no dimension to transform");
  std::vector<bool> seen(static_cast<size_t>(self.dim()), false);
  for (const int64_t dim : dims) {
    require(dim >= 0 && dim < self.dim() && !seen[static_cast<size_t>(dim)],
            "its dimensions are distinct and not negative");
    seen[static_cast<size_t>(dim)] = true;
  }
  require(self.numel() > 0, "nothing to transform");
  const int64_t normalization = args["normalization"].toInt();
  require(normalization >= 0 && normalization <= 2, "no such normalisation");
  const Tensor out = args.tensor("out");
  auto sizes = self.sizes().vec();
  int64_t& last = sizes[static_cast<size_t>(dims.back())];
  if (args.has("last_dim_size")) {
    const int64_t wanted = args["last_dim_size"].toInt();
    require(wanted >= 1 && wanted / 2 + 1 <= last, "the output is longer than the input tells");
    last = wanted;
  } else if (args.has("onesided") && args["onesided"].toBool()) {
    last = last / 2 + 1;
  }
  if (!out.defined()) return;
  require(out.sizes() == c10::IntArrayRef(sizes), "the result is of the wrong size");
  const bool complex = op.name.find("c2r") == std::string::npos;
  require(out.is_complex() == complex &&
              c10::toRealValueType(out.scalar_type()) == c10::toRealValueType(self.scalar_type()),
          "the result is of the wrong type");
}

void scan_helper(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor self = args.tensor("self");
  same(args.tensor("values"), self);
  same_sizes(args.tensor("indices"), self);
  require(args.tensor("indices").scalar_type() == at::kLong, "indices are 64-bit");
  const int64_t dim = args["dim"].toInt();
  require(self.numel() > 0 && dim >= 0 && dim < self.dim(), "no such dimension");
}

void log_cum_sum_exp(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor self = args.tensor("self");
  require(self.is_floating_point() || self.is_complex(), "not floating point");
  const Tensor out = args.tensor("out");
  if (out.defined()) same(out, self);
  (void)at::maybe_wrap_dim(args["dim"].toInt(), self.dim());
}

// Rows exchanged by a factorisation, counted from 1; negative ones belong to blocks of two.
void pivots(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor pivots = args.tensor("pivots");
  const Tensor matrix = args.tensor("LU").defined() ? args.tensor("LU") : args.tensor("LD");
  require(matrix.dim() >= 2, "a matrix is expected");
  require(pivots.scalar_type() == at::kInt, "pivots are 32-bit");
  if (pivots.numel() == 0) return;
  const auto [least, most] = at::aminmax(pivots.abs());
  require(least.item<int64_t>() >= 1 && most.item<int64_t>() <= matrix.size(-2),
          "a pivot is not a row");
  const bool blocks = op.name.find("ldl") != std::string::npos;
  require(blocks || pivots.min().item<int64_t>() >= 1, "a pivot is not a row");
}

// -- embeddings

void embedding_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor grad = args.tensor("grad_output");
  const Tensor indices = args.tensor("indices");
  require(grad.dim() > 0, "a gradient per index is expected");
  indices_below(indices, args["num_weights"].toInt());
  elements(grad, indices.numel() * grad.size(-1));
}

void embedding_bag(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor weight = args.tensor("weight");
  const Tensor indices = args.tensor("indices");
  const Tensor offsets = args.tensor("offsets");
  require(weight.dim() == 2 && indices.dim() == 1 && offsets.dim() == 1,
          "wrong number of dimensions");
  same_type(indices, offsets);
  indices_below(indices, weight.size(0));
  indices_below(offsets, indices.numel() + 1);
  if (offsets.numel() > 0) {
    require(offsets[0].item<int64_t>() == 0, "the first bag starts at 0");
    require((offsets.diff() >= 0).all().item<bool>(), "bags overlap");
  }
  const Tensor scales = args.tensor("per_sample_weights");
  if (!scales.defined()) return;
  same_type(scales, weight);
  same_sizes(scales, indices);
}

void embedding_bag_backward(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor grad = args.tensor("grad");
  const Tensor indices = args.tensor("indices");
  const Tensor bags = args.tensor("offset2bag");
  require(grad.dim() == 2 && indices.dim() == 1, "wrong number of dimensions");
  const int64_t rows =
      args.has("num_weights") ? args["num_weights"].toInt() : args.tensor("weight").size(0);
  indices_below(indices, rows);
  if (bags.numel() != 0) {
    same_sizes(bags, indices);
    indices_below(bags, grad.size(0));
  }
  const int64_t mode = args["mode"].toInt();
  require(mode >= 0 && mode <= 2, "no such mode");
  const Tensor scales = args.tensor("per_sample_weights");
  if (scales.defined()) same_sizes(scales, indices);
  const Tensor sizes = args.tensor("bag_size");
  if (sizes.defined() && mode != 0) elements(sizes, grad.size(0));
  const Tensor most = args.tensor("maximum_indices");
  if (!most.defined() || mode != 2) return;
  same_sizes(most, grad);
  indices_below(most + 1, rows + 1);  // -1: an empty bag
}

// -- optimizers: several lists with one tensor per parameter

void fused_optimizer(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const auto params = args.tensors("self");
  const auto beside = [&](string_view name, bool may_lack) {
    if (!args.has(name)) return;
    const auto list = args.tensors(name);
    if (list.empty() && may_lack) return;
    require(list.size() == params.size(), "one tensor per parameter");
    for (size_t i = 0; i < list.size(); ++i) {
      same(list[i], params[i]);
      require(list[i].strides() == params[i].strides(),
              "tensors are laid out like their parameters");
    }
  };
  for (const Tensor& param : params) {
    floating(param);
    require(param.is_non_overlapping_and_dense(), "parameters are dense");
  }
  beside("grads", false);
  beside("exp_avgs", false);
  beside("exp_avg_sqs", false);
  beside("state_sums", false);
  beside("max_exp_avg_sqs", !args.has("amsgrad") || !args["amsgrad"].toBool());
  beside("momentum_buffer_list", args.has("momentum") && args["momentum"].toDouble() == 0);
  if (args.has("state_steps")) {
    const auto steps = args.tensors("state_steps");
    require(steps.size() == params.size(), "one step counter per parameter");
    for (const Tensor& step : steps) {
      elements(step, 1);
      require(step.scalar_type() == at::kFloat, "step counters are floats");
    }
  }
  for (const string_view name : {"grad_scale", "found_inf", "lr"}) {
    const Tensor tensor = args.tensor(name);
    elements(tensor, 1);
    if (tensor.defined()) require(tensor.is_floating_point(), "a scale is floating point");
  }
}

// -- the rest

void rrelu(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor self = args.tensor("self");
  same(args.tensor("noise"), self);
  floating(self);
  if (args.tensor("out").defined()) same(args.tensor("out"), self);
}

// The scales must be those that the sizes tell: addresses are computed with them.
void antialiased_upsample(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const bool backward = args.has("input_size");
  const auto to = args.ints("output_size");
  const auto from = backward ? args.ints("input_size") : args.tensor("self").sizes().vec();
  require(from.size() == 4 && to.size() == 2, "images are expected");
  constexpr int64_t kFar = int64_t{1} << 40;
  for (size_t d = 0; d < 2; ++d) {
    require(from[d + 2] > 0 && from[d + 2] < kFar && to[d] > 0 && to[d] < kFar,
            "an image has no pixels");
    const c10::IValue& scale = args[d == 0 ? "scales_h" : "scales_w"];
    if (scale.isNone()) continue;
    const double expected = std::floor(static_cast<double>(from[d + 2]) * scale.toDouble());
    require(scale.toDouble() > 0 && std::abs(expected - static_cast<double>(to[d])) <= 1,
            "the scale is not that of the sizes");
  }
}

void range(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const c10::Scalar step = args["step"].toScalar();
  require(!step.isComplex() && std::abs(step.toDouble()) >= 1e-300, "a step must not be zero");
  const bool whole = !args.tensor("out").is_floating_point();
  require(!whole || std::abs(step.toDouble()) >= 1, "a step must not be zero");
}

void random_bounds(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  constexpr int64_t kFar = int64_t{1} << 62;
  for (const string_view name : {"from", "to"}) {
    if (!args.has(name) || !args[name].isInt()) continue;
    require(args[name].toInt() > -kFar && args[name].toInt() < kFar, "a bound is too far away");
  }
}

// A recurrence takes a step per degree, and where its values stay bounded nothing but the degree
// ends it: one of 2^62 would hold the device for years.
void polynomial(const OperatorInfo& op, const Stack& stack) {
  constexpr double kDegreeMax = 100'000;
  const Arguments args(op, stack);
  const Tensor degrees = args.tensor("n");
  const bool above = degrees.defined() ? degrees.to(at::kDouble).gt(kDegreeMax).any().item<bool>()
                                       : args["n"].toScalar().toDouble() > kDegreeMax;
  TORCH_CHECK(!above, "a degree is above ", kDegreeMax);
}

constexpr PrefixCheck kChecks[] = {
    {"_adaptive_avg_pool2d_backward", average_pool_backward<2>},
    {"_adaptive_avg_pool3d_backward", average_pool_backward<3>},
    {"adaptive_avg_pool3d_backward", average_pool_backward<3>},
    {"adaptive_max_pool2d_backward", max_pool_backward<2>},
    {"adaptive_max_pool3d_backward", max_pool_backward<3>},
    {"max_pool2d_with_indices_backward", max_pool_backward<2>},
    {"max_pool3d_with_indices_backward", max_pool_backward<3>},
    {"fractional_max_pool2d_backward", fractional_pool_backward<2>},
    {"fractional_max_pool3d_backward", fractional_pool_backward<3>},
    {"_batch_norm_", batch_norm},
    {"_native_batch_norm_legit", batch_norm},
    {"native_batch_norm", batch_norm},
    {"batch_norm_", batch_norm},
    {"_embedding_bag_backward", embedding_bag_backward},
    {"_embedding_bag_dense_backward", embedding_bag_backward},
    {"_embedding_bag_per_sample_weights_backward", embedding_bag_backward},
    {"_embedding_bag", embedding_bag},
    {"embedding_dense_backward", embedding_backward},
    {"_upsample_bicubic2d_aa", antialiased_upsample},
    {"_upsample_bilinear2d_aa", antialiased_upsample},
    {"_upsample_lanczos2d_aa", antialiased_upsample},
    {"linalg_lu_solve", pivots},
    {"linalg_ldl_solve", pivots},
    {"rrelu_with_noise", rrelu},
    {"_cdist_backward", cdist_backward},
    {"_cholesky_solve_helper", cholesky_solve},
    {"_ctc_loss", ctc_loss},
    {"_cummax_helper", scan_helper},
    {"_cummin_helper", scan_helper},
    {"_fft_", fourier},
    {"_fused_", fused_optimizer},
    {"_log_softmax_backward_data", softmax_backward},
    {"_softmax_backward_data", softmax_backward},
    {"_masked_softmax_backward", masked_softmax_backward},
    {"_logcumsumexp", log_cum_sum_exp},
    {"_pdist_backward", pdist_backward},
    {"_weight_norm_interface", weight_norm},
    {"native_layer_norm_backward", layer_norm_backward},
    {"native_group_norm_backward", group_norm_backward},
    {"random_.", random_bounds},
    {"range", range},
    {"reflection_pad1d_backward", pad_backward<1>},
    {"reflection_pad2d_backward", pad_backward<2>},
    {"reflection_pad3d_backward", pad_backward<3>},
    {"replication_pad1d_backward", pad_backward<1>},
    {"replication_pad2d_backward", pad_backward<2>},
    {"replication_pad3d_backward", pad_backward<3>},
    {"smooth_l1_loss_backward", smooth_l1_backward},
    {"special_chebyshev_polynomial_", polynomial},
    {"special_laguerre_polynomial_", polynomial},
    {"special_legendre_polynomial_", polynomial},
    {"special_shifted_chebyshev_polynomial_", polynomial},
    {"unfold_backward", unfold_backward},
};

}  // namespace

Check find_check(std::span<const PrefixCheck> checks, string_view name) {
  constexpr string_view kAten = "aten::";
  if (!name.starts_with(kAten)) return nullptr;
  name.remove_prefix(kAten.size());
  const auto found = std::ranges::find_if(
      checks, [&](const PrefixCheck& entry) { return name.starts_with(entry.prefix); });
  return found == checks.end() ? nullptr : found->check;
}

Check check_of(string_view name) { return find_check(kChecks, name); }

}  // namespace djinn::server
