// SPDX-License-Identifier: Apache-2.0
// Special kernels: attention and recurrent cells as a client records them, against the CPU's own.
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "server/torch/special_kernels.h"
#include "tests/server/torch/harness.h"

namespace djinn::server {
namespace {

using at::Tensor;

Stack run(const char* name, Stack stack) {
  const Kernel kernel = cpu_kernel_of(name);
  if (kernel == nullptr) throw std::invalid_argument(name);
  const at::NoGradGuard no_grad;
  kernel(stack);
  return stack;
}

constexpr const char* kAttention = "aten::_scaled_dot_product_fused_attention_overrideable";

bool takes_the_fused_path(const Tensor& query, const Tensor& key, bool causal, bool grouped) {
  return at::_fused_sdp_choice(query, key, key, {}, 0.0, causal, {}, grouped) ==
         static_cast<int64_t>(at::SDPBackend::flash_attention);
}

// LibTorch's generator begins somewhere else in every process; the tests' does not.
struct SameInputs {
  SameInputs() { at::manual_seed(7); }
};

class AttentionTest : SameInputs,
                      public ::testing::TestWithParam<std::tuple<int64_t, bool, at::ScalarType>> {};
class RecurrentCells : SameInputs, public ::testing::Test {};

TEST_P(AttentionTest, IsTheCpusOwnToTheLastBit) {
  const auto [key_heads, causal, type] = GetParam();
  const Tensor query = at::randn({2, 6, 17, 32}).to(type).requires_grad_();
  const Tensor key = at::randn({2, key_heads, 17, 32}).to(type).requires_grad_();
  const Tensor value = at::randn({2, key_heads, 17, 32}).to(type).requires_grad_();
  const bool grouped = key_heads != 6;
  if (!takes_the_fused_path(query, key, causal, grouped)) {
    GTEST_SKIP() << "the CPU takes its math path here, and so does the client";
  }
  const Tensor local =
      at::scaled_dot_product_attention(query, key, value, {}, 0.0, causal, {}, grouped);
  const Stack remote = run(kAttention, {query.detach(), key.detach(), value.detach(), c10::IValue(),
                                        0.0, causal, false, c10::IValue()});
  ASSERT_EQ(remote.size(), 9);
  EXPECT_TRUE(at::equal(remote[0].toTensor(), local));
  EXPECT_EQ(remote[4].toInt(), 17);

  const Tensor grad = at::randn_like(local);
  local.backward(grad);
  const Stack grads =
      run("aten::_scaled_dot_product_fused_attention_overrideable_backward",
          {grad, query.detach(), key.detach(), value.detach(), Tensor(),
           c10::List<bool>({true, true, true, false}), remote[0], remote[1], Tensor(), Tensor(), 17,
           17, 0.0, causal, Tensor(), Tensor(), c10::IValue()});
  EXPECT_TRUE(at::equal(grads[0].toTensor(), query.grad()));
  EXPECT_TRUE(at::equal(grads[1].toTensor(), key.grad()));
  EXPECT_TRUE(at::equal(grads[2].toTensor(), value.grad()));
}

// -- the same from plain operators, as other devices have it

class PlainAttentionTest : public ::testing::TestWithParam<std::tuple<int64_t, bool, int>> {};

TEST_P(PlainAttentionTest, IsNearTheCpusOwn) {
  const auto [key_heads, causal, masked] = GetParam();
  const auto options = at::kDouble;  // So that only mistakes show.
  const Tensor query = at::randn({2, 6, 17, 32}, options);
  const Tensor key = at::randn({2, key_heads, 17, 32}, options);
  const Tensor value = at::randn({2, key_heads, 17, 32}, options);
  c10::IValue mask;
  if (masked == 1) mask = at::randn({17, 17}, options);
  if (masked == 2) mask = at::randn({2, 1, 1, 17}, options);
  const Stack forward{query, key, value, mask, 0.0, causal, false, c10::IValue(0.3)};
  const Stack expected = run(kAttention, forward);
  Stack made = forward;
  device_kernel_of(kAttention)(made);
  ASSERT_EQ(made.size(), expected.size());
  EXPECT_TRUE(at::allclose(made[0].toTensor(), expected[0].toTensor()));
  EXPECT_TRUE(at::allclose(made[1].toTensor(), expected[1].toTensor()));
  EXPECT_EQ(made[1].toTensor().strides(), expected[1].toTensor().strides());
  EXPECT_EQ(made[4].toInt(), expected[4].toInt());

  const Stack backward{at::randn_like(query),
                       query,
                       key,
                       value,
                       mask.isNone() ? c10::IValue(Tensor()) : mask,
                       c10::List<bool>({true, true, true, false}),
                       expected[0],
                       expected[1],
                       Tensor(),
                       Tensor(),
                       17,
                       17,
                       0.0,
                       causal,
                       Tensor(),
                       Tensor(),
                       c10::IValue(0.3)};
  const std::string name = std::string(kAttention) + "_backward";
  const Stack grads = run(name.c_str(), backward);
  Stack plain = backward;
  device_kernel_of(name)(plain);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(at::allclose(plain[i].toTensor(), grads[i].toTensor())) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Heads, PlainAttentionTest,
                         ::testing::Combine(::testing::Values(6, 2), ::testing::Bool(),
                                            ::testing::Values(0, 1, 2)));

TEST(PlainAttention, ARowThatSeesNothingIsZeros) {
  const Tensor query = at::randn({1, 1, 2, 4});
  const Tensor mask = at::tensor({1, 1, 0, 0}).to(at::kBool).view({2, 2});
  Stack stack{query, query, query, mask, 0.0, false, false, c10::IValue()};
  device_kernel_of(kAttention)(stack);
  EXPECT_TRUE(at::equal(stack[0].toTensor().select(2, 1), at::zeros({1, 1, 4})));
}

INSTANTIATE_TEST_SUITE_P(Heads, AttentionTest,
                         ::testing::Combine(::testing::Values(6, 2), ::testing::Bool(),
                                            ::testing::Values(at::kFloat, at::kBFloat16)));

TEST(Attention, RefusesShapesThatItsKernelWouldTrust) {
  const Tensor query = at::randn({2, 6, 17, 32});
  const Tensor wrong = at::randn({2, 4, 17, 32});
  const Tensor longer = at::randn({2, 6, 19, 32});
  for (const auto& [key, value] :
       {std::pair(wrong, wrong), std::pair(query, longer), std::pair(longer, query),
        std::pair(query.narrow(0, 0, 1), query)}) {
    EXPECT_THROW(
        run(kAttention, {query, key, value, c10::IValue(), 0.0, false, false, c10::IValue()}),
        c10::Error);
  }
}

// One step of the module on the CPU: gates with bias, then the cell. A bias that the product of
// matrices takes in rounds elsewhere than one that is added after it, so the cell is the CPU's own
// to the last bit where both have the same gates, and near it where the cell adds the bias.
TEST_F(RecurrentCells, LstmIsTheCpusOwnToTheLastBit) {
  const Tensor input = at::randn({4, 10});
  const Tensor hx = at::randn({4, 8});
  const Tensor cx = at::randn({4, 8});
  Tensor w_ih = at::randn({32, 10}).requires_grad_();
  Tensor w_hh = at::randn({32, 8}).requires_grad_();
  Tensor b_ih = at::randn({32}).requires_grad_();
  Tensor b_hh = at::randn({32}).requires_grad_();
  const auto [hy, cy] = at::lstm_cell(input, {hx, cx}, w_ih, w_hh, b_ih, b_hh);
  const at::NoGradGuard no_grad;
  const Stack made = run("aten::_thnn_fused_lstm_cell",
                         {at::matmul(input, w_ih.t()), at::matmul(hx, w_hh.t()), cx, b_ih, b_hh});
  EXPECT_TRUE(at::allclose(made[0].toTensor(), hy, 1e-6, 1e-7));
  EXPECT_TRUE(at::allclose(made[1].toTensor(), cy, 1e-6, 1e-7));
  const Stack same =
      run("aten::_thnn_fused_lstm_cell", {at::linear(input, w_ih, b_ih), at::linear(hx, w_hh, b_hh),
                                          cx, c10::IValue(), c10::IValue()});
  EXPECT_TRUE(at::equal(same[0].toTensor(), hy)) << (same[0].toTensor() - hy).abs().max();
  EXPECT_TRUE(at::equal(same[1].toTensor(), cy)) << (same[1].toTensor() - cy).abs().max();

  const at::AutoGradMode grad_on(true);
  const Tensor grad_hy = at::randn({4, 8});
  const Tensor grad_cy = at::randn({4, 8});
  const auto local = torch::autograd::grad({hy, cy}, {b_ih}, {grad_hy, grad_cy});
  const Stack back = run("aten::_thnn_fused_lstm_cell_backward_impl",
                         {grad_hy, grad_cy, cx, made[1], made[2], true});
  EXPECT_TRUE(at::allclose(back[2].toTensor(), local[0], 1e-5, 1e-6));
}

TEST_F(RecurrentCells, GruIsTheCpusOwnToTheLastBit) {
  const Tensor input = at::randn({4, 10});
  const Tensor hx = at::randn({4, 8}).requires_grad_();
  Tensor w_ih = at::randn({24, 10}).requires_grad_();
  Tensor w_hh = at::randn({24, 8}).requires_grad_();
  Tensor b_ih = at::randn({24}).requires_grad_();
  Tensor b_hh = at::randn({24}).requires_grad_();
  const Tensor hy = at::gru_cell(input, hx, w_ih, w_hh, b_ih, b_hh);
  Stack made;
  Stack same;
  {
    const at::NoGradGuard no_grad;
    made = run("aten::_thnn_fused_gru_cell",
               {at::matmul(input, w_ih.t()), at::matmul(hx, w_hh.t()), hx, b_ih, b_hh});
    same = run("aten::_thnn_fused_gru_cell",
               {at::linear(input, w_ih, b_ih), at::linear(hx, w_hh, b_hh), hx, c10::IValue(),
                c10::IValue()});
  }
  EXPECT_TRUE(at::allclose(made[0].toTensor(), hy, 1e-6, 1e-7));
  EXPECT_TRUE(at::equal(same[0].toTensor(), hy)) << (same[0].toTensor() - hy).abs().max();
  const Tensor grad_hy = at::randn({4, 8});
  const auto local = torch::autograd::grad({hy}, {b_ih, b_hh, w_ih}, {grad_hy});
  const Stack back = run("aten::_thnn_fused_gru_cell_backward", {grad_hy, made[1], true});
  EXPECT_TRUE(at::allclose(back[3].toTensor(), local[0], 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(back[4].toTensor(), local[1], 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(at::matmul(back[0].toTensor().t(), input), local[2], 1e-4, 1e-5));
}

TEST_F(RecurrentCells, RefuseGatesThatCannotBeSplit) {
  const Tensor odd = at::randn({4, 7});
  EXPECT_THROW(run("aten::_thnn_fused_lstm_cell", {odd, odd, odd, c10::IValue(), c10::IValue()}),
               c10::Error);
  EXPECT_THROW(run("aten::_thnn_fused_gru_cell_backward", {odd, odd, true}), c10::Error);
}

}  // namespace
}  // namespace djinn::server
