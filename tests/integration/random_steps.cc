// SPDX-License-Identifier: Apache-2.0
// Steps that write: in place, by index, from the app's memory; resizes; arithmetic.
#include "tests/integration/random_steps.h"

#include <c10/util/StringUtil.h>

namespace djinn::testing {

using at::Tensor;
using Program = RandomProgram;

std::string name(size_t i) { return "t" + std::to_string(i); }
std::string list(const Sizes& values) { return c10::str(at::IntArrayRef(values)); }

int64_t any_dim(RandomProgram& p, size_t i) {
  const int64_t rank = p.host(i).dim();
  return p.chance(3)    ? rank
         : p.chance(20) ? -p.between(1, std::max<int64_t>(rank, 1))
                        : p.below(rank);
}
int64_t size_at(RandomProgram& p, size_t i, int64_t dim) {
  const Tensor& t = p.host(i);
  if (t.dim() == 0 || dim >= t.dim()) return 1;
  return t.size(dim);
}

void make(RandomProgram& p, size_t i, const std::string& text,
          const std::function<Tensor(const Tensor&)>& act, Refusal refusal) {
  p.apply(
      name(p.size()) + " = " + name(i) + "." + text, [=](Pool& pool) { return act(pool.t[i]); },
      refusal);
}
void change(RandomProgram& p, size_t i, const std::string& text,
            const std::function<void(Tensor&)>& act, Refusal refusal) {
  p.apply(
      name(i) + "." + text,
      [=](Pool& pool) {
        act(pool.t[i]);
        return Tensor();
      },
      refusal);
}

namespace {

// -- writes

void write_scalar(Program& p) {
  const size_t i = p.any();
  const int64_t value = p.between(-3, 4);
  switch (p.below(7)) {
    case 0:
      return change(p, i, "zero_()", [](Tensor& t) { t.zero_(); });
    case 1:
      return change(p, i, c10::str("fill_(", value, ")"), [=](Tensor& t) { t.fill_(value); });
    case 2:
      return change(p, i, c10::str("mul_(", value, ")"), [=](Tensor& t) { t.mul_(value); });
    case 3:
      return change(p, i, "neg_()", [](Tensor& t) { t.neg_(); });
    case 4:
      return change(p, i, "triu_()", [](Tensor& t) { t.triu_(); });
    case 5:
      return change(p, i, "cumsum_(0)", [](Tensor& t) { t.cumsum_(0); });
    default:
      return change(p, i, c10::str("add_(", value, ")"), [=](Tensor& t) { t.add_(value); });
  }
}

void write_tensor(Program& p) {
  const size_t i = p.any();
  const size_t j = p.any();
  const int64_t kind = p.below(3);
  static constexpr const char* kNames[] = {".copy_(", ".add_(", ".mul_("};
  p.apply(
      name(i) + kNames[kind] + name(j) + ")",
      [=](Pool& pool) {
        Tensor& t = pool.t[i];
        const Tensor& other = pool.t[j];
        kind == 0 ? t.copy_(other) : kind == 1 ? t.add_(other) : t.mul_(other);
        return Tensor();
      },
      Refusal::kLater);
}

void write_part(Program& p) {
  const size_t i = p.any();
  const int64_t dim = any_dim(p, i);
  const int64_t at = p.below(size_at(p, i, dim));
  change(p, i, c10::str("select(", dim, ", ", at, ").add_(7)"),
         [=](Tensor& t) { t.select(dim, at).add_(7); });
}

// From the app's memory, also broadcast and converted on the way.
void write_upload(Program& p) {
  const size_t i = p.any();
  const Sizes sizes = p.chance(80) ? p.host(i).sizes().vec() : Sizes{1};
  const Tensor data = p.data(sizes, p.chance(70) ? p.host(i).scalar_type() : at::kInt);
  change(p, i, c10::str("copy_(upload ", data.scalar_type(), list(sizes), ")"),
         [=](Tensor& t) { t.copy_(data); });
}

void write_indexed(Program& p) {
  const size_t i = p.any();
  if (p.host(i).dim() == 0 || p.host(i).size(0) == 0) return;
  const int64_t rows = p.host(i).size(0);
  Sizes rows_written;
  for (int64_t row = 0; row < rows; ++row) {
    if (p.chance(50)) rows_written.push_back(row);
  }
  if (rows_written.empty()) rows_written.push_back(rows - 1);
  const Tensor index = at::tensor(rows_written);
  const std::string text = list(rows_written);
  switch (p.below(4)) {
    case 0:
      return change(p, i, "index_fill_(0, " + text + ", 3)",
                    [=](Tensor& t) { t.index_fill_(0, index.to(t.device()), 3); });
    case 1:
      return change(p, i, "index_put_({" + text + "}, 4)", [=](Tensor& t) {
        t.index_put_({index.to(t.device())}, at::full({}, 4, t.options().requires_grad(false)));
      });
    case 2:
      return change(p, i, "index_add_(0, " + text + ", itself)", [=](Tensor& t) {
        const Tensor there = index.to(t.device());
        t.index_add_(0, there, t.index_select(0, there));
      });
    default:
      return change(p, i, "masked_fill_(" + name(i) + " > 0, -1)",
                    [](Tensor& t) { t.masked_fill_(t > 0, -1); });
  }
}

// -- the tensor itself becomes another

void reshape_in_place(Program& p) {
  const size_t i = p.any();
  const int64_t dim = any_dim(p, i);
  switch (p.below(4)) {
    case 0:
      return change(
          p, i, "t_()", [](Tensor& t) { t.t_(); }, Refusal::kAtOnce);
    case 1:
      return change(
          p, i, c10::str("unsqueeze_(", dim, ")"), [=](Tensor& t) { t.unsqueeze_(dim); },
          Refusal::kAtOnce);
    case 2:
      return change(
          p, i, "squeeze_()", [](Tensor& t) { t.squeeze_(); }, Refusal::kAtOnce);
    default:
      return change(
          p, i, c10::str("transpose_(", dim, ", 0)"), [=](Tensor& t) { t.transpose_(dim, 0); },
          Refusal::kAtOnce);
  }
}

void resize(Program& p) {
  const size_t i = p.any();
  if (p.tracked() || p.host(i).is_conj() || p.host(i).is_neg()) return;
  const size_t before = p.host(i).storage().nbytes();
  const Sizes sizes = p.sizes(3, 5);
  change(
      p, i, "resize_(" + list(sizes) + ")", [=](Tensor& t) { t.resize_(sizes); }, Refusal::kAtOnce);
  p.fill_grown(i, before);
}

void set(Program& p) {
  const size_t i = p.any();
  const size_t j = p.any();
  if (p.tracked() || p.host(j).is_conj() || p.host(j).is_neg() || p.host(i).is_conj() ||
      p.host(i).is_neg())
    return;
  const size_t before = p.host(j).storage().nbytes();
  const std::string text = name(i) + ".set_(" + name(j);
  const auto act = [=](auto change_it) {
    return [=](Pool& pool) {
      change_it(pool.t[i], pool.t[j]);
      return Tensor();
    };
  };
  switch (p.below(5)) {
    case 0:
      p.apply(name(i) + ".set_data(" + name(j) + ")",
              act([](Tensor& t, const Tensor& s) { t.set_data(s); }));
      break;
    case 1:
      p.apply(text + ")", act([](Tensor& t, const Tensor& s) { t.set_(s); }));
      break;
    case 2:
      // The CPU keeps the strides if the size stays, even where they lead out of the storage.
      if (!p.host(i).is_contiguous()) return;
      p.apply(text + ".storage())", act([](Tensor& t, const Tensor& s) { t.set_(s.storage()); }));
      break;
    case 3:
      p.apply(name(i) + ".set_()", act([](Tensor& t, const Tensor& /*s*/) { t.set_(); }));
      break;
    default: {
      const Sizes sizes = p.sizes(2, 4);
      Sizes strides;
      for (size_t d = 0; d < sizes.size(); ++d) strides.push_back(p.between(1, 4));
      const int64_t offset = p.chance(5) ? -1 : p.below(6);
      p.apply(
          c10::str(text, ".storage(), ", offset, ", ", list(sizes), ", ", list(strides), ")"),
          act([=](Tensor& t, const Tensor& s) { t.set_(s.storage(), offset, sizes, strides); }));
    }
  }
  p.fill_grown(i, before);
}

// -- arithmetic that makes new tensors, or fills given ones

void combine(Program& p) {
  const size_t i = p.any();
  const size_t j = p.any();
  if (p.host(i).numel() > 200 || p.host(j).numel() > 200) return;
  const int64_t kind = p.below(5);
  static constexpr const char* kNames[] = {"add", "mul", "cat", "stack", "where"};
  p.apply(
      c10::str(name(p.size()), " = ", kNames[kind], "(", name(i), ", ", name(j), ")"),
      [=](Pool& pool) {
        const Tensor& a = pool.t[i];
        const Tensor& b = pool.t[j];
        switch (kind) {
          case 0:
            return a + b;
          case 1:
            return a * b;
          case 2:
            return at::cat({a, b});
          case 3:
            return at::stack({a, b});
          default:
            return at::where(a > 0, a, b);
        }
      },
      Refusal::kLater);
}

void combine_into(Program& p) {
  const size_t i = p.any();
  const size_t j = p.any();
  const size_t out = p.any();
  if (p.tracked() || p.host(i).numel() > 200 || p.host(j).numel() > 200) return;
  // Writing what is read while it is enlarged: PyTorch lets it pass, and the result means nothing.
  if (p.host(out).is_alias_of(p.host(i)) || p.host(out).is_alias_of(p.host(j))) return;
  const size_t before = p.host(out).storage().nbytes();
  const bool cat = p.chance(30);
  const bool ran = p.apply(
      c10::str(cat ? "cat_out(" : "add_out(", name(out), ", ", name(i), ", ", name(j), ")"),
      [=](Pool& pool) {
        cat ? at::cat_out(pool.t[out], {pool.t[i], pool.t[j]}, 0)
            : at::add_out(pool.t[out], pool.t[i], pool.t[j]);
        return Tensor();
      },
      Refusal::kLater);
  if (ran) p.fill_grown(out, before);
}

void reduce(Program& p) {
  const size_t i = p.any();
  const int64_t dim = any_dim(p, i);
  const auto refusal = Refusal::kLater;
  switch (p.below(8)) {
    case 0:
      return make(
          p, i, c10::str("sum(", dim, ")"), [=](const Tensor& t) { return t.sum(dim); }, refusal);
    case 1:
      return make(
          p, i, c10::str("flip(", dim, ")"), [=](const Tensor& t) { return t.flip(dim); }, refusal);
    case 2:
      return make(
          p, i, "nonzero()", [](const Tensor& t) { return t.detach().nonzero(); }, refusal);
    case 3:
      return make(
          p, i, "[> 0]", [](const Tensor& t) { return t.index({t > 0}); }, refusal);
    case 4:
      return make(
          p, i, "relu()", [](const Tensor& t) { return at::relu(t); }, refusal);
    case 5:
      return make(
          p, i, "masked_fill(> 0, 2)", [](const Tensor& t) { return t.masked_fill(t > 0, 2); },
          refusal);
    case 6:
      return make(
          p, i, c10::str("index_select(", dim, ", [0, 0])"),
          [=](const Tensor& t) {
            return t.index_select(dim, at::zeros({2}, at::kLong).to(t.device()));
          },
          refusal);
    default:
      return make(
          p, i, "roll(1)", [](const Tensor& t) { return t.roll(1); }, refusal);
  }
}

void read_value(Program& p) {
  const size_t i = p.any();
  if (p.host(i).numel() == 0) return;
  p.apply(name(i) + ".flatten()[0].item()", [=](Pool& pool) {
    return at::scalar_tensor(pool.t[i].flatten()[0].item(), pool.t[i].scalar_type());
  });
}

}  // namespace

std::span<const StepKind> write_steps() {
  static constexpr StepKind kKinds[] = {
      {write_scalar, 8},  {write_tensor, 10},    {write_part, 4}, {write_upload, 4},
      {write_indexed, 5}, {reshape_in_place, 4}, {resize, 6},     {set, 6},
      {combine, 4},       {combine_into, 3},     {reduce, 4},     {read_value, 2}};
  return kKinds;
}

}  // namespace djinn::testing
