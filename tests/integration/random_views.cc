// SPDX-License-Identifier: Apache-2.0
// Steps that make tensors: new ones, and views of others.
#include <algorithm>
#include <numeric>

#include <c10/util/StringUtil.h>

#include "tests/integration/random_steps.h"

namespace djinn::testing {
namespace {

using at::Tensor;
using Program = RandomProgram;

// Sizes with the same number of elements (or, now and then, not).
Sizes other_shape(Program& p, size_t i) {
  int64_t left = p.host(i).numel() + (p.chance(4) ? 1 : 0);
  Sizes out;
  while (left > 1 && out.size() < 3) {
    int64_t factor = p.between(1, 6);
    while (left % factor != 0) --factor;
    out.push_back(factor);
    left /= factor;
  }
  if (out.empty() || left != 1) out.push_back(left);
  std::rotate(out.begin(), out.begin() + p.below(static_cast<int64_t>(out.size())), out.end());
  if (left != 0 && p.chance(15))
    out[static_cast<size_t>(p.below(static_cast<int64_t>(out.size())))] = -1;
  return out;
}

// -- new tensors

void upload(Program& p) { p.add(p.data(p.sizes(3, 5), p.type())); }

void factory(Program& p) {
  const Sizes sizes = p.sizes(3, 4);
  const auto type = p.type();
  const int64_t value = p.between(-3, 9);
  p.apply(c10::str(name(p.size()), " = full(", list(sizes), ", ", value, ", ", type, ")"),
          [=](Pool& pool) {
            return at::full(sizes, value, at::TensorOptions(type).device(pool.device));
          });
}

void duplicate(Program& p) {
  const size_t i = p.any();
  switch (p.below(4)) {
    case 0:
      return make(p, i, "clone()", [](const Tensor& t) { return t.clone(); });
    case 1:
      return make(p, i, "contiguous()", [](const Tensor& t) { return t.contiguous(); });
    case 2:
      return make(p, i, "data()", [](const Tensor& t) { return t.variable_data(); });
    default:
      return make(p, i, "detach()", [](const Tensor& t) { return t.detach(); });
  }
}

void convert(Program& p) {
  const auto type = p.type();
  const size_t i = p.any();
  if (p.host(i).is_complex() != c10::isComplexType(type)) return;  // PyTorch warns each time.
  make(p, i, c10::str("to(", type, ")"), [=](const Tensor& t) { return t.to(type); });
}

// -- views

void view_shape(Program& p) {
  const size_t i = p.any();
  const Sizes sizes = other_shape(p, i);
  if (p.chance(50))
    return make(p, i, "view(" + list(sizes) + ")", [=](const Tensor& t) { return t.view(sizes); });
  make(p, i, "reshape(" + list(sizes) + ")", [=](const Tensor& t) { return t.reshape(sizes); });
}

void view_slice(Program& p) {
  const size_t i = p.any();
  const int64_t dim = any_dim(p, i);
  const int64_t size = size_at(p, i, dim);
  const int64_t a = p.between(-size, size);
  const int64_t b = p.between(0, size + 2);
  const int64_t step = p.between(1, 3);
  make(p, i, c10::str("slice(", dim, ", ", a, ", ", b, ", ", step, ")"),
       [=](const Tensor& t) { return t.slice(dim, a, b, step); });
}

void view_select(Program& p) {
  const size_t i = p.any();
  const int64_t dim = any_dim(p, i);
  const int64_t at = p.chance(4) ? size_at(p, i, dim) : p.below(size_at(p, i, dim));
  if (p.chance(30)) {
    const int64_t length = p.between(0, size_at(p, i, dim) - at);
    return make(p, i, c10::str("narrow(", dim, ", ", at, ", ", length, ")"),
                [=](const Tensor& t) { return t.narrow(dim, at, length); });
  }
  make(p, i, c10::str("select(", dim, ", ", at, ")"),
       [=](const Tensor& t) { return t.select(dim, at); });
}

void view_order(Program& p) {
  const size_t i = p.any();
  const int64_t a = any_dim(p, i);
  const int64_t b = any_dim(p, i);
  if (p.chance(40)) {
    Sizes order(static_cast<size_t>(p.host(i).dim()));
    std::iota(order.begin(), order.end(), 0);
    for (size_t d = order.size(); d > 1; --d)
      std::swap(order[d - 1], order[static_cast<size_t>(p.below(static_cast<int64_t>(d)))]);
    return make(p, i, "permute(" + list(order) + ")",
                [=](const Tensor& t) { return t.permute(order); });
  }
  make(p, i, c10::str("transpose(", a, ", ", b, ")"),
       [=](const Tensor& t) { return t.transpose(a, b); });
}

void view_rank(Program& p) {
  const size_t i = p.any();
  const int64_t dim = any_dim(p, i);
  switch (p.below(4)) {
    case 0:
      return make(p, i, c10::str("unsqueeze(", dim, ")"),
                  [=](const Tensor& t) { return t.unsqueeze(dim); });
    case 1:
      return make(p, i, "squeeze()", [](const Tensor& t) { return t.squeeze(); });
    case 2:
      return make(p, i, "flatten()", [](const Tensor& t) { return t.flatten(); });
    default:
      return make(p, i, c10::str("movedim(", dim, ", 0)"),
                  [=](const Tensor& t) { return t.movedim(dim, 0); });
  }
}

void view_expand(Program& p) {
  const size_t i = p.any();
  Sizes sizes = p.host(i).sizes().vec();
  for (int64_t& size : sizes)
    size = size == 1 && p.chance(70) ? p.between(1, 4) : p.chance(30) ? -1 : size;
  if (p.chance(50)) sizes.insert(sizes.begin(), p.between(1, 3));
  if (p.host(i).numel() > 200) return;
  make(p, i, "expand(" + list(sizes) + ")", [=](const Tensor& t) { return t.expand(sizes); });
}

void view_strided(Program& p) {
  const size_t i = p.any();
  const auto room = static_cast<int64_t>(p.host(i).storage().nbytes() / p.host(i).itemsize());
  const Sizes sizes = p.sizes(3, 3);
  Sizes strides;
  for (size_t d = 0; d < sizes.size(); ++d) strides.push_back(p.between(0, 4));
  const int64_t offset = p.below(std::max<int64_t>(room, 1));
  make(p, i, c10::str("as_strided(", list(sizes), ", ", list(strides), ", ", offset, ")"),
       [=](const Tensor& t) { return t.as_strided(sizes, strides, offset); });
}

void view_window(Program& p) {
  const size_t i = p.any();
  const int64_t dim = any_dim(p, i);
  const int64_t size = p.between(1, size_at(p, i, dim) + (p.chance(5) ? 1 : 0));
  const int64_t step = p.between(1, 2);
  if (p.chance(30)) {
    const int64_t offset = p.between(-1, 1);
    return make(p, i, c10::str("diagonal(", offset, ")"),
                [=](const Tensor& t) { return t.diagonal(offset); });
  }
  make(p, i, c10::str("unfold(", dim, ", ", size, ", ", step, ")"),
       [=](const Tensor& t) { return t.unfold(dim, size, step); });
}

void view_pieces(Program& p) {
  const size_t i = p.any();
  const int64_t dim = any_dim(p, i);
  const int64_t pieces = p.between(1, 3);
  make(p, i, c10::str("chunk(", pieces, ", ", dim, ").back()"),
       [=](const Tensor& t) { return t.chunk(pieces, dim).back(); });
}

void view_bits(Program& p) {
  const size_t i = p.any_of(at::kComplexFloat);
  if (p.host(i).is_complex()) {
    switch (p.below(4)) {
      case 0:
        return make(p, i, "conj()", [](const Tensor& t) { return t.conj(); });
      case 1:
        return make(p, i, "view_as_real()", [](const Tensor& t) { return at::view_as_real(t); });
      case 2:
        return make(p, i, "imag()", [](const Tensor& t) { return at::imag(t); });
      default:
        return make(p, i, "real()", [](const Tensor& t) { return at::real(t); });
    }
  }
  const auto type = p.host(i).scalar_type() == at::kFloat ? at::kInt : at::kByte;
  if (!p.tracked())
    make(p, i, c10::str("view(", type, ")"), [=](const Tensor& t) { return t.view(type); });
}

}  // namespace

std::span<const StepKind> view_steps() {
  static constexpr StepKind kKinds[] = {
      {upload, 3},       {factory, 2},     {duplicate, 4},   {convert, 2},   {view_shape, 6},
      {view_slice, 6},   {view_select, 5}, {view_order, 5},  {view_rank, 4}, {view_expand, 3},
      {view_strided, 6}, {view_window, 4}, {view_pieces, 2}, {view_bits, 3}};
  return kKinds;
}

}  // namespace djinn::testing
