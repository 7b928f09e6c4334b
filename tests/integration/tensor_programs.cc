// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "tests/integration/programs.h"

namespace djinn::testing {
namespace {

using at::Tensor;
using Results = std::vector<Tensor>;

Tensor leaf(const std::vector<int64_t>& shape, at::Device device) {
  return at::randn(shape).to(device).requires_grad_();
}

Results arithmetic(at::Device d) {
  auto x = at::randn({4, 5}).to(d);
  auto y = at::randn({4, 5}).to(d);
  return {x + y, x * 2, x - 1.5, x / y, at::matmul(x, y.t()), -x, x > y, x.eq(x), 3 - x, x % 2};
}

Results attention(at::Device d, bool causal, bool masked, bool grouped) {
  auto q = leaf({2, 4, 5, 8}, d);
  auto k = leaf({2, grouped ? 2 : 4, 5, 8}, d);
  auto v = leaf({2, grouped ? 2 : 4, 5, 8}, d);
  std::optional<Tensor> mask;
  if (masked) mask = at::ones({5, 5}, at::kBool).tril().to(d);
  auto y = at::scaled_dot_product_attention(q, k, v, mask, 0.0, causal, std::nullopt, grouped);
  y.pow(2).sum().backward();
  return {y, q.grad(), k.grad(), v.grad()};
}

Results attention_float_mask(at::Device d) {
  auto q = leaf({2, 4, 5, 8}, d);
  auto mask = leaf({5, 5}, d);
  auto y = at::scaled_dot_product_attention(q, q, q, mask);
  y.pow(2).sum().backward();
  return {y, q.grad(), mask.grad()};
}

Results activations(at::Device d) {
  auto x = leaf({4, 5}, d);
  auto y = (at::relu(x) + at::gelu(x) + at::silu(x) + at::hardswish(x) + at::leaky_relu(x) +
            at::elu(x) + at::softplus(x) + x.sigmoid() + x.tanh());
  y.pow(2).sum().backward();
  return {y, x.grad()};
}

Results losses(at::Device d) {
  auto x = leaf({4, 5}, d);
  auto target = at::rand({4, 5}).to(d);
  auto classes = at::arange(4).to(d);
  auto loss = at::cross_entropy_loss(x, classes) + at::binary_cross_entropy_with_logits(x, target) +
              at::smooth_l1_loss(x, target) + at::kl_div(x.log_softmax(1), target.softmax(1)) +
              at::mse_loss(x, target);
  loss.backward();
  return {loss, x.grad()};
}

Results indexing(at::Device d) {
  auto x = at::zeros({5, 5}).to(d);
  auto i = at::arange(3).to(d);
  x.index_put_({i, i}, at::ones({3}).to(d));
  auto masked = x.index({x > 0.5});
  return {x,
          x.index({i}),
          masked,
          x.masked_select(x > 0.5),
          at::nonzero(x),
          x.gather(1, i.view({3, 1})),
          x.index_select(0, i),
          x.index_add(0, i, at::ones({3, 5}).to(d)),
          x.take(i)};
}

Results index_backward(at::Device d) {
  auto x = leaf({5, 5}, d);
  auto i = at::tensor({0, 2, 2}, at::kLong).to(d);
  auto y = x.index({i}).pow(2).sum() + x.masked_fill(x > 0, 2.0).sum() +
           at::where(x > 0, x, x * 3).sum();
  y.backward();
  return {y, x.grad()};
}

Results sorting(at::Device d) {
  auto x = at::randn({8}).to(d);
  auto integers = at::tensor({3, 1, 3, 2}, at::kLong).to(d);
  auto [values, inverse, counts] = at::_unique2(integers, true, true, true);
  return {std::get<0>(x.topk(3)),
          std::get<1>(x.topk(3)),
          std::get<0>(x.sort()),
          x.argsort(),
          x.cumsum(0),
          values,
          inverse,
          counts,
          x.cumprod(0),
          std::get<0>(x.cummax(0))};
}

Results reductions(at::Device d) {
  auto x = at::randn({4, 5}).to(d);
  return {x.sum(),
          x.sum(1),
          x.mean(),
          x.mean({0}, true),
          x.std(1),
          x.var(),
          x.prod(1),
          x.max(),
          x.min(),
          std::get<0>(x.max(1)),
          std::get<1>(x.max(1)),
          x.argmax(-1),
          x.norm(),
          x.amax(0),
          x.logsumexp(1),
          x.any(),
          x.all(),
          x.median()};
}

Results shapes(at::Device d) {
  auto x = at::randn({4, 6}).to(d);
  return {x.roll(1, 0),
          x.flip({0}),
          at::cat({x, x}, 1),
          at::stack({x, x}),
          x.repeat({2, 1}),
          x.tril(),
          x.unfold(1, 2, 2).sum(2),
          x.expand({2, 4, 6}).contiguous(),
          x.t().contiguous(),
          x.reshape({8, 3}),
          x.clamp(-1, 1),
          at::einsum("ij,kj->ik", {x, x}),
          at::diag(x.slice(1, 0, 4)),
          x.view({2, 2, 6}).permute({2, 0, 1}).reshape({6, 4})};
}

Results views_in_place(at::Device d) {
  auto x = at::zeros({4, 4}).to(d);
  x.t()[1].add_(3);
  x.select(0, 2).mul_(2);
  x.slice(1, 0, 2).fill_(7);
  x.diagonal().sub_(1);
  x[0][0] = 9;
  auto y = at::empty({0}, x.options());
  at::add_out(y, x, x);
  auto z = at::zeros({4, 4}).to(d);
  z.t().copy_(x);
  return {x, y, z, x + 1, x.view({2, 8}).sum(0)};
}

Results resizing(at::Device d) {
  auto x = at::arange(6, at::kFloat).to(d);
  auto y = x.clone().resize_({2, 3});
  auto grown = at::ones({2}).to(d);
  grown.resize_({4}).slice(0, 2, 4).zero_();
  auto set = at::zeros({1}).to(d);
  set.set_(x);
  set.add_(1);
  auto data = at::zeros({2}).to(d);
  data.set_data(at::ones({3}).to(d));
  return {y, grown, set, x, data, x.detach().mul_(2), x};
}

Results linear_algebra(at::Device d) {
  auto a = (at::rand({4, 4}) + at::eye(4) * 4).to(d);
  auto b = at::rand({4, 2}).to(d);
  auto symmetric = at::matmul(a, a.t());
  auto [values, vectors] = at::linalg_eigh(symmetric);
  auto [u, s, v] = at::linalg_svd(a);
  return {at::linalg_solve(a, b),
          s,
          u.abs(),
          v.abs(),
          values,
          vectors.abs(),
          at::linalg_cholesky(symmetric),
          at::linalg_det(a),
          at::linalg_inv(a),
          std::get<0>(at::linalg_qr(a)).abs()};
}

Results solve_backward(at::Device d) {
  auto a = (at::rand({4, 4}) + at::eye(4) * 4).to(d).requires_grad_();
  auto b = leaf({4, 2}, d);
  auto x = at::linalg_solve(a, b);
  x.pow(2).sum().backward();
  return {x, a.grad(), b.grad()};
}

Results complex_numbers(at::Device d) {
  auto x = at::randn({8}, at::kComplexFloat).to(d);
  auto f = at::fft_fft(x);
  return {at::view_as_real(x * x.conj()),
          at::view_as_real(f),
          at::fft_irfft(at::fft_rfft(at::real(x).contiguous())),
          x.abs(),
          x.angle(),
          at::view_as_real(x + c10::complex<double>(1, 2))};
}

Results bfloat16(at::Device d) {
  auto x = at::randn({4, 8}).to(d).to(at::kBFloat16);
  auto w = at::randn({4, 8}).to(at::kBFloat16).to(d);
  return {x, x + w, at::matmul(x, w.t()), x.softmax(1), x.sum(1), x.to(at::kFloat) * 3};
}

Results integers(at::Device d) {
  auto x = at::arange(10).to(d);
  return {x * 3,
          x.remainder(3),
          x.bitwise_and(5),
          x.to(at::kInt) - 4,
          x.to(at::kFloat).floor_divide(3),
          x.bincount(),
          at::one_hot(x, 10),
          x.eq(3).logical_or(x.eq(4))};
}

Results foreach (at::Device d) {
  std::vector<Tensor> a{at::randn({3}).to(d), at::randn({2, 2}).to(d)};
  std::vector<Tensor> b{at::randn({3}).to(d), at::randn({2, 2}).to(d)};
  auto c = at::_foreach_add(a, b);
  at::_foreach_mul_(c, 2.0);
  at::_foreach_addcdiv_(c, a, b, 0.5);
  auto norms = at::_foreach_norm(c);
  auto roots = at::_foreach_sqrt(at::_foreach_abs(c));
  at::_foreach_zero_(a);
  c.insert(c.end(), norms.begin(), norms.end());
  c.insert(c.end(), roots.begin(), roots.end());
  c.push_back(a[1]);
  return c;
}

Results images(at::Device d) {
  auto x = leaf({1, 4, 4, 4}, d);
  auto grid = (at::rand({1, 3, 3, 2}) * 2 - 1).to(d);
  auto y = at::upsample_bilinear2d(x, {8, 8}, false).sum() +
           at::reflection_pad2d(x, {1, 1, 1, 1}).pow(2).sum() +
           at::pixel_shuffle(x, 2).pow(3).sum() +
           at::grid_sampler(x, grid, 0, 0, false).pow(2).sum();
  y.backward();
  return {y, x.grad()};
}

Results random_numbers(at::Device d) {
  auto o = at::TensorOptions().device(d);
  torch::manual_seed(5);
  auto u = at::rand({16}, o);
  auto n = at::randn({16}, o);
  auto i = at::randint(0, 10, {16}, o);
  torch::manual_seed(5);
  auto again = at::rand({16}, o);
  auto m = at::multinomial(u, 4);
  auto p = at::randperm(8, o);
  auto b = at::empty({16}, o).bernoulli_(0.3);
  return {u, n, i, again, m, p, b};
}

Results scalars(at::Device d) {
  auto x = at::tensor({1.5, 2.5}).to(d);
  auto zero_dim = at::scalar_tensor(3.0);  // On the host, as PyTorch allows.
  auto y = x * zero_dim;
  zero_dim.fill_(100);
  return {y, at::scalar_tensor(x.sum().item<double>()), at::scalar_tensor(x[1].item<double>()),
          at::scalar_tensor(static_cast<int64_t>(x.equal(x.clone()))), x.to(at::kDouble)};
}

Results factories(at::Device d) {
  auto o = at::TensorOptions().device(d);
  return {at::zeros({2, 3}, o),
          at::ones({2}, o),
          at::full({2}, 7.5, o),
          at::arange(2, 9, 2, o),
          at::linspace(0, 1, 5, o),
          at::eye(3, o),
          at::arange(0.0, 1.0, 0.3, o),
          at::zeros({0}, o),
          at::tril_indices(3, 3, 0, o.dtype(at::kLong)),
          at::zeros_like(at::ones({2, 2}, o)),
          at::logspace(0, 2, 3, 10, o)};
}

Results double_backward(at::Device d) {
  auto x = leaf({4}, d);
  auto y = (x.pow(3)).sum();
  auto g = torch::autograd::grad({y}, {x}, {}, true, true)[0];
  g.pow(2).sum().backward();
  return {g, x.grad()};
}

}  // namespace

std::vector<Program> tensor_programs() {
  return {
      {"Arithmetic", arithmetic},
      {"Attention", [](at::Device d) { return attention(d, false, false, false); }},
      {"AttentionCausal", [](at::Device d) { return attention(d, true, false, false); }},
      {"AttentionMasked", [](at::Device d) { return attention(d, false, true, false); }},
      {"AttentionGrouped", [](at::Device d) { return attention(d, false, false, true); }},
      {"AttentionFloatMask", attention_float_mask},
      {"Activations", activations},
      {"Losses", losses},
      {"Indexing", indexing},
      {"IndexBackward", index_backward},
      {"Sorting", sorting},
      {"Reductions", reductions},
      {"Shapes", shapes},
      {"ViewsInPlace", views_in_place},
      {"Resizing", resizing},
      {"LinearAlgebra", linear_algebra},
      {"SolveBackward", solve_backward},
      {"ComplexNumbers", complex_numbers},
      {"Bfloat16", bfloat16},
      {"Integers", integers},
      {"Foreach", foreach},
      {"Images", images},
      {"RandomNumbers", random_numbers, 0, true},
      {"Scalars", scalars},
      {"Factories", factories},
      {"DoubleBackward", double_backward},
  };
}

}  // namespace djinn::testing
