// SPDX-License-Identifier: Apache-2.0
// Packed copies of weights: what they multiply is right, of the right weights, and they go when
// their memory is wanted.
#include "server/torch/packed_matrices.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "server/torch/cpu_backend.h"

namespace djinn::server {
namespace {

constexpr int64_t kInner = 192;
constexpr int64_t kColumns = 160;
constexpr uint64_t kBytes = kInner * kColumns * 4;

struct Packed : ::testing::Test {
  explicit Packed(uint64_t budget_bytes = 0)
      : backend(make_cpu_backend({.memory_budget_bytes = budget_bytes, .threads = 1})),
        packed(*backend) {
    at::manual_seed(7);
  }
  // As the layer of a model has it: [columns, inner], shown the other way round.
  static at::Tensor matrix() { return at::randn({kColumns, kInner}).t(); }
  at::Tensor multiply(uint64_t content, const at::Tensor& matrix, const at::Tensor& rows,
                      const at::Tensor& bias = {}) {
    at::Tensor out;
    const auto entered = backend->enter({}, [&] {
      const c10::InferenceMode inference;
      out = packed.multiply(content, matrix, rows, bias);
    });
    EXPECT_TRUE(entered);
    return out;
  }
  // It has been used so often that it is packed now.
  void warm(uint64_t content, const at::Tensor& matrix) {
    for (int i = 0; i < 8; ++i) (void)multiply(content, matrix, at::randn({2, kInner}));
  }
  static void expect_near(const at::Tensor& got, const at::Tensor& expected) {
    ASSERT_TRUE(got.defined());
    EXPECT_EQ(got.scalar_type(), expected.scalar_type());
    EXPECT_EQ(got.sizes(), expected.sizes());
    const double tolerance = got.scalar_type() == at::kFloat ? 1e-4 : 0.25;
    EXPECT_LT((got.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>(),
              tolerance);
  }

  std::unique_ptr<Backend> backend;
  PackedMatrices packed;
};

TEST_F(Packed, AreMadeForWhatIsUsedOftenAndMultiplyAsMatricesDo) {
  const at::Tensor weights = matrix();
  const at::Tensor bias = at::randn({kColumns});
  EXPECT_FALSE(multiply(1, weights, at::randn({4, kInner})).defined()) << "once is not often";
  EXPECT_EQ(packed.bytes(), 0U);
  warm(1, weights);
  EXPECT_EQ(packed.bytes(), kBytes);
  for (const int64_t rows : {1, 2, 3, 4, 7, 16, 33}) {
    const at::Tensor x = at::randn({rows, kInner});
    expect_near(multiply(1, weights, x), at::mm(x, weights));
    expect_near(multiply(1, weights, x, bias), at::addmm(bias, x, weights));
  }
  EXPECT_EQ(packed.bytes(), kBytes) << "one copy, however many rows";
}

TEST_F(Packed, AreMadeOfMatricesOfEitherOrderAndOfHalfTheWidth) {
  const at::Tensor other_order = at::randn({kInner, kColumns});
  warm(1, other_order);
  const at::Tensor x = at::randn({5, kInner});
  expect_near(multiply(1, other_order, x), at::mm(x, other_order));
  const at::Tensor narrow = matrix().to(at::kBFloat16);
  for (int i = 0; i < 8; ++i) (void)multiply(2, narrow, x.to(at::kBFloat16));
  const at::Tensor made = multiply(2, narrow, x.to(at::kBFloat16));
  if (made.defined()) expect_near(made, at::mm(x.to(at::kBFloat16), narrow));
}

TEST_F(Packed, AreNeverThoseOfOtherBytes) {
  const at::Tensor one = matrix();
  const at::Tensor two = matrix();
  const at::Tensor both = at::cat({one.t(), two.t()});  // Two views of one buffer.
  const at::Tensor upper = both.narrow(0, 0, kColumns).t();
  const at::Tensor lower = both.narrow(0, kColumns, kColumns).t();
  warm(1, one);
  warm(2, two);
  warm(3, upper);
  warm(3, lower);
  const at::Tensor x = at::randn({4, kInner});
  expect_near(multiply(1, one, x), at::mm(x, one));
  expect_near(multiply(2, two, x), at::mm(x, two));
  expect_near(multiply(3, upper, x), at::mm(x, one));
  expect_near(multiply(3, lower, x), at::mm(x, two));
  EXPECT_FALSE(multiply(4, one, x).defined()) << "another buffer may have another's address";
}

TEST_F(Packed, GoWhenTheirMemoryIsWantedTheLeastRecentlyUsedFirst) {
  const at::Tensor one = matrix();
  const at::Tensor two = matrix();
  const at::Tensor x = at::randn({4, kInner});
  warm(1, one);
  warm(2, two);
  EXPECT_TRUE(multiply(1, one, x).defined());
  EXPECT_EQ(packed.drop(1), kBytes);
  EXPECT_EQ(packed.bytes(), kBytes);
  EXPECT_TRUE(multiply(1, one, x).defined());
  EXPECT_FALSE(multiply(2, two, x).defined());
  EXPECT_EQ(packed.drop(1 << 30), kBytes);
  EXPECT_EQ(packed.drop(1), 0U);
  warm(2, two);
  expect_near(multiply(2, two, x), at::mm(x, two));
}

struct PackedInABudget : Packed {
  PackedInABudget() : Packed(6 * kBytes) {}
};

TEST_F(PackedInABudget, TakeAQuarterOfItAtMost) {
  const at::Tensor one = matrix();
  const at::Tensor two = matrix();
  warm(1, one);
  EXPECT_EQ(packed.bytes(), kBytes);
  warm(2, two);
  EXPECT_EQ(packed.bytes(), kBytes) << "the other had to go";
  EXPECT_FALSE(multiply(1, one, at::randn({4, kInner})).defined());
}

}  // namespace
}  // namespace djinn::server
