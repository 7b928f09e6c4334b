// SPDX-License-Identifier: Apache-2.0
#include "server/torch/index_checks.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "server/torch/arguments.h"
#include "server/torch/operator_checks.h"

namespace djinn::server {
namespace {

using at::Tensor;
using std::string_view;

// One wait for the device per check: `good` is a bool tensor of any size.
void all_of(const Tensor& good, string_view what) {
  TORCH_CHECK(good.numel() == 0 || good.all().item<bool>(), what);
}

bool is_mask(const Tensor& index) {
  return index.scalar_type() == at::kBool || index.scalar_type() == at::kByte;
}

void in_range(const Tensor& index, int64_t begin, int64_t end) {
  if (!index.defined() || index.numel() == 0) return;
  const auto [least, most] = at::aminmax(index);
  const Tensor both = at::stack({least, most}).to(at::kCPU, at::kLong);
  TORCH_CHECK(both[0].item<int64_t>() >= begin && both[1].item<int64_t>() < end,
              "an index is not in [", begin, ", ", end, ")");
}

int64_t size_along(const Tensor& tensor, int64_t dim) {
  return tensor.dim() == 0 ? 1 : tensor.size(at::maybe_wrap_dim(dim, tensor.dim()));
}

// gather, scatter, index_select and their kin: one index tensor along one dimension.
void along_dimension(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  in_range(args.tensor("index"), 0, size_along(args.tensor("self"), args["dim"].toInt()));
}

// The same, where a negative index counts from the end.
void along_dimension_wrapped(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const int64_t size = size_along(args.tensor("self"), args["dim"].toInt());
  in_range(args.tensor("index"), -size, size);
}

void flat(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const int64_t size = args.tensor("self").numel();
  in_range(args.tensor("index"), -size, size);
}

// x[i, j, ...]: each tensor indexes one dimension, a mask as many as it has.
void advanced(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor self = args.tensor("self");
  int64_t dim = 0;
  for (const c10::IValue& each : args["indices"].toListRef()) {
    const Tensor index = each.isTensor() ? each.toTensor() : Tensor();
    if (index.defined() && is_mask(index)) {
      dim += index.dim();
      continue;
    }
    if (index.defined() && dim < self.dim()) in_range(index, -self.size(dim), self.size(dim));
    ++dim;
  }
}

void embedding(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor table = args.has("weight") ? args.tensor("weight") : args.tensor("self");
  in_range(args.tensor("indices"), 0, size_along(table, 0));
}

void class_targets(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor self = args.tensor("self");
  const Tensor target = args.tensor("target");
  if (self.dim() == 0) return;
  const int64_t classes = self.dim() == 1 ? self.size(0) : self.size(1);
  Tensor good = at::logical_and(target >= 0, target < classes);
  if (args.has("ignore_index")) {
    good = at::logical_or(good, target == args["ignore_index"].toInt());
  }
  all_of(good, "a target is no class");
}

// Classes of a sample behind one another, ended by -1.
void class_lists(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor self = args.tensor("self");
  if (self.dim() > 0) in_range(args.tensor("target"), -1, self.size(-1));
}

void unpooling(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  in_range(args.tensor("indices"), 0, c10::multiply_integers(args.ints("output_size")));
}

void multinomial(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor weights = args.tensor("self");
  if (weights.numel() == 0) return;
  const Tensor finite = at::logical_and(weights >= 0, weights < HUGE_VAL);
  all_of(at::logical_and(finite.all(-1), weights.sum(-1) > 0),
         "weights are finite, not negative, and not all zero");
}

void probabilities(const Tensor& tensor) {
  if (tensor.defined()) {
    all_of(at::logical_and(tensor >= 0, tensor <= 1), "a probability is not in [0, 1]");
  }
}
void bernoulli(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  if (!args.has("p")) return probabilities(args.tensor("self"));
  probabilities(args.tensor("p"));  // Not if it is a number: that is checked where it is read.
}
void binary_cross_entropy(const OperatorInfo& op, const Stack& stack) {
  probabilities(Arguments(op, stack).tensor("self"));
}
void binomial(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  all_of(args.tensor("count") >= 0, "a count is negative");
  probabilities(args.tensor("prob"));
}
void poisson(const OperatorInfo& op, const Stack& stack) {
  all_of(Arguments(op, stack).tensor("self") >= 0, "a rate is negative");
}

void masked_scatter(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor self = args.tensor("self");
  const Tensor mask = args.tensor("mask");
  if (mask.scalar_type() != at::kBool) return;  // Its kernel refuses that.
  const auto sizes = at::infer_size(self.sizes(), mask.sizes());
  const int64_t wanted = mask.expand(sizes).sum().item<int64_t>();
  TORCH_CHECK(args.tensor("source").numel() >= wanted,
              "the source has fewer elements than the mask");
}

void repeat_interleave(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor repeats = args.tensor("repeats");
  if (repeats.numel() == 0) return;
  all_of(repeats >= 0, "a number of repeats is negative");
  const c10::IValue& total = args["output_size"];
  TORCH_CHECK(total.isNone() || repeats.sum().item<int64_t>() == total.toInt(),
              "the repeats are not as many as was said");
}

void lu_pivots(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  const Tensor matrix = args.tensor("LU_data");
  if (matrix.dim() >= 2) in_range(args.tensor("LU_pivots"), 1, matrix.size(-2) + 1);
}

// Where each group ends, in the dimension that is divided.
void groups(const OperatorInfo& op, const Stack& stack) {
  const Arguments args(op, stack);
  if (args["offs"].isNone()) return;
  const Tensor ends = args.tensor("offs");
  const Tensor left = args.tensor("self");
  const Tensor right = args.tensor("mat2");
  if (ends.numel() == 0 || left.dim() < 2 || right.dim() < 2) return;  // The kernel refuses those.
  const int64_t divided = left.dim() > 2    ? right.size(-1)
                          : right.dim() > 2 ? left.size(0)
                                            : left.size(1);
  in_range(ends, 0, divided + 1);
  all_of(ends.diff() >= 0, "a group ends before it begins");
}

constexpr PrefixCheck kChecks[] = {
    {"embedding_dense_backward", nullptr},  // operator_checks.h has it.
    {"embedding", embedding},
    {"index_select", along_dimension},
    {"index_add", along_dimension},
    {"index_copy", along_dimension},
    {"index_reduce", along_dimension},
    {"index_fill", along_dimension_wrapped},
    {"gather", along_dimension},
    {"scatter", along_dimension},
    {"index.", advanced},
    {"index_put", advanced},
    {"_index_put_impl", advanced},
    {"_unsafe_index.", advanced},
    {"_unsafe_index_put", advanced},
    {"take", flat},
    {"put", flat},
    {"nll_loss", class_targets},
    {"multi_margin_loss", class_targets},
    {"multilabel_margin_loss", class_lists},
    {"max_unpool", unpooling},
    {"multinomial", multinomial},
    {"bernoulli", bernoulli},
    {"binary_cross_entropy_with_logits", nullptr},
    {"binary_cross_entropy_backward", nullptr},
    {"binary_cross_entropy", binary_cross_entropy},
    {"binomial", binomial},
    {"poisson", poisson},
    {"masked_scatter_backward", nullptr},
    {"masked_scatter", masked_scatter},
    {"repeat_interleave", repeat_interleave},
    {"lu_unpack", lu_pivots},
    {"_grouped_mm", groups},
    {"_scaled_grouped_mm", groups},
};

}  // namespace

Check index_check_of(string_view name) { return find_check(kChecks, name); }

}  // namespace djinn::server
