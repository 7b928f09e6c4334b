// SPDX-License-Identifier: Apache-2.0
// Index checks: what would end a GPU for everybody is an exception before the kernel runs.
#include "server/torch/index_checks.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "operators/census.h"

namespace djinn::server {
namespace {

using at::Tensor;
using c10::IValue;

struct Row {
  const char* op;
  Stack good;
  Stack bad;
};

Tensor longs(const std::vector<int64_t>& values) { return at::tensor(values); }
IValue list(const Tensor& first, const Tensor& second) {
  return c10::List<std::optional<Tensor>>({std::optional(first), std::optional(second)});
}

std::vector<Row> rows_of_groups() {
  const Tensor x = at::ones({4, 3});
  const Tensor stacked = at::ones({2, 3, 5});
  return {
      {"aten::_grouped_mm",
       {x, stacked, longs({1, 4}), IValue(), IValue()},
       {x, stacked, longs({1, 5}), IValue(), IValue()}},
      {"aten::_grouped_mm",
       {x.t(), x, longs({0, 4}), IValue(), IValue()},
       {x.t(), x, longs({3, 2}), IValue(), IValue()}},
  };
}

std::vector<Row> rows() {
  const Tensor x = at::ones({4, 3});
  const Tensor part = at::ones({2, 3});
  const Tensor square = longs({0, 3, 1, 2}).view({2, 2});
  const Tensor mask = longs({1, 0, 1, 0}).to(at::kBool);
  return {
      {"aten::embedding", {x, longs({0, 3}), -1, false, false}, {x, longs({4}), -1, false, false}},
      {"aten::embedding", {x, square, -1, false, false}, {x, longs({-1}), -1, false, false}},
      {"aten::embedding_renorm_", {x, longs({3}), 1.0, 2.0}, {x, longs({4}), 1.0, 2.0}},
      {"aten::index_select", {x, 0, longs({0, 3})}, {x, 0, longs({4})}},
      {"aten::index_select", {x, -1, longs({2})}, {x, -1, longs({3})}},
      {"aten::index_add", {x, 0, longs({0, 3}), part, 1}, {x, 0, longs({-1, 0}), part, 1}},
      {"aten::index_copy", {x, 0, longs({0, 3}), part}, {x, 0, longs({0, 4}), part}},
      {"aten::index_reduce",
       {x, 0, longs({0, 3}), part, "prod", true},
       {x, 0, longs({0, 4}), part, "prod", true}},
      {"aten::index_fill.int_Scalar", {x, 0, longs({-4}), 1}, {x, 0, longs({-5}), 1}},
      {"aten::gather",
       {x, 1, longs({0, 2}).view({2, 1}), false},
       {x, 1, longs({0, 3}).view({2, 1}), false}},
      {"aten::scatter.value",
       {x, 1, longs({2}).view({1, 1}), 1},
       {x, 1, longs({3}).view({1, 1}), 1}},
      {"aten::scatter_add",
       {x, 0, longs({3}).view({1, 1}), part},
       {x, 0, longs({-1}).view({1, 1}), part}},
      {"aten::index.Tensor",
       {x, list(longs({-4, 3}), longs({2, -3}))},
       {x, list(longs({0}), longs({3}))}},
      {"aten::index.Tensor", {x, list(mask, longs({2, 1}))}, {x, list(mask, longs({2, -4}))}},
      {"aten::index_put_",
       {x, list({}, longs({2})), at::ones({}), false},
       {x, list({}, longs({3})), at::ones({}), false}},
      {"aten::_unsafe_index.Tensor", {x, list(longs({3}), {})}, {x, list(longs({4}), {})}},
      {"aten::take", {x, longs({-12, 11})}, {x, longs({12})}},
      {"aten::put_",
       {x, longs({11}), at::ones({1}), false},
       {x, longs({-13}), at::ones({1}), false}},
      {"aten::nll_loss_forward",
       {x, longs({0, 1, 2, -100}), IValue(), 1, -100},
       {x, longs({0, 1, 2, 3}), IValue(), 1, -100}},
      {"aten::nll_loss2d_forward",
       {at::ones({1, 3, 1, 2}), longs({0, 2}).view({1, 1, 2}), IValue(), 1, -100},
       {at::ones({1, 3, 1, 2}), longs({0, -1}).view({1, 1, 2}), IValue(), 1, -100}},
      {"aten::multi_margin_loss",
       {x, longs({0, 1, 2, 2}), 1, 1.0, IValue(), 1},
       {x, longs({0, 1, 2, 3}), 1, 1.0, IValue(), 1}},
      {"aten::multilabel_margin_loss_forward",
       {x, at::full({4, 3}, -1, at::kLong), 1},
       {x, at::full({4, 3}, 3, at::kLong), 1}},
      {"aten::max_unpool2d",
       {at::ones({1, 1, 1}), longs({3}).view({1, 1, 1}), c10::List<int64_t>({2, 2})},
       {at::ones({1, 1, 1}), longs({4}).view({1, 1, 1}), c10::List<int64_t>({2, 2})}},
      {"aten::multinomial", {x, 1, false, IValue()}, {at::zeros({2, 3}), 1, false, IValue()}},
      {"aten::multinomial", {x[0], 1, false, IValue()}, {at::full({3}, NAN), 1, false, IValue()}},
      {"aten::bernoulli", {x, IValue()}, {x * 2, IValue()}},
      {"aten::bernoulli.p", {x * 2, 0.5, IValue()}, {}},
      {"aten::bernoulli_.Tensor", {x * 2, x, IValue()}, {x, x * -1, IValue()}},
      {"aten::binary_cross_entropy", {x, x, IValue(), 1}, {x * 2, x, IValue(), 1}},
      {"aten::binomial", {x, x, IValue()}, {x, x * 2, IValue()}},
      {"aten::poisson", {x, IValue()}, {-x, IValue()}},
      {"aten::masked_scatter", {x, x > 0, at::ones({12})}, {x, x > 0, at::ones({11})}},
      {"aten::repeat_interleave.Tensor", {longs({1, 2}), 3}, {longs({1, 2}), 4}},
      {"aten::repeat_interleave.Tensor", {longs({1, 2}), IValue()}, {longs({1, -2}), IValue()}},
      {"aten::lu_unpack",
       {at::ones({2, 2}), at::tensor({1, 2}, at::kInt), true, true},
       {at::ones({2, 2}), at::tensor({1, 3}, at::kInt), true, true}},
  };
}

TEST(IndexChecks, RefuseWhatAKernelOnADeviceWouldDieOf) {
  std::vector<Row> all = rows();
  std::ranges::move(rows_of_groups(), std::back_inserter(all));
  for (const Row& row : all) {
    SCOPED_TRACE(row.op);
    const auto handle = operators::find_operator(row.op);
    ASSERT_TRUE(handle.has_value());
    const auto op = describe_operator(*handle);
    ASSERT_TRUE(op.has_value()) << op.error().message;
    const Check check = index_check_of(row.op);
    ASSERT_NE(check, nullptr);
    ASSERT_EQ(row.good.size(), (*op)->args.size());
    EXPECT_NO_THROW(check(**op, row.good));
    if (!row.bad.empty()) {
      EXPECT_THROW(check(**op, row.bad), c10::Error);
    }
  }
}

TEST(IndexChecks, ConcernOnlyOperatorsThatLookAtValues) {
  for (const char* const name :
       {"aten::mm", "aten::add.Tensor", "aten::binary_cross_entropy_with_logits",
        "aten::embedding_dense_backward", "prims::take", "aten::cumsum"}) {
    EXPECT_EQ(index_check_of(name), nullptr) << name;
  }
}

}  // namespace
}  // namespace djinn::server
