// SPDX-License-Identifier: Apache-2.0
// A matrix product of a run that others make, too: what goes in, and what comes back.
#include <ATen/ATen.h>

#include "server/torch/run.h"

namespace djinn::server {
namespace {

// Nothing: it is another kind of product than rows by a matrix.
std::optional<Product> product_of(const ProductInfo& info, const Stack& stack) {
  const auto tensor = [&](int64_t place) {
    if (place < 0 || !stack[static_cast<size_t>(place)].isTensor()) return at::Tensor();
    return stack[static_cast<size_t>(place)].toTensor();
  };
  Product out{.rows = tensor(info.rows), .matrix = tensor(info.matrix), .bias = tensor(info.bias)};
  if (!out.rows.defined() || !out.matrix.defined() || out.matrix.dim() != 2) return std::nullopt;
  if (info.transposed) out.matrix = out.matrix.t();
  const bool fits = out.rows.dim() > 0 && out.rows.size(-1) == out.matrix.size(0) &&
                    out.rows.numel() > 0 && out.matrix.numel() > 0 &&
                    out.rows.scalar_type() == out.matrix.scalar_type() &&
                    c10::isFloatingType(out.rows.scalar_type());
  if (!fits) return std::nullopt;
  if (info.beta >= 0) {
    out.beta = stack[static_cast<size_t>(info.beta)].toScalar();
    out.alpha = stack[static_cast<size_t>(info.beta) + 1].toScalar();
    if (out.beta.isComplex() || out.alpha.isComplex()) return std::nullopt;
  }
  if (!out.bias.defined()) return out;
  const int64_t columns = out.matrix.size(1);
  const bool row = out.bias.dim() == 1 && out.bias.size(0) == columns &&
                   out.bias.scalar_type() == out.rows.scalar_type();
  return row ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace

const Cell& Run::matrix_cell() {
  const graph::Entry& entry = plan_.entries[next_];
  const graph::Arg& arg = plan_.args[entry.first_arg + program_.steps[next_].op->product->matrix];
  return cell(plan_.operands[arg.first].slot);
}

const void* Run::shared_matrix() {
  const graph::Entry& entry = plan_.entries[next_];
  if (entry.kind != graph::EntryKind::kOp || work_.refused != nullptr) return nullptr;
  const ProductInfo* const product = program_.steps[next_].op->product;
  if (product == nullptr) return nullptr;
  if (plan_.args[entry.first_arg + product->matrix].kind != graph::ArgKind::kTensor) return nullptr;
  const Cell& matrix = matrix_cell();
  return matrix.shared && matrix.error == nullptr ? bytes_of(matrix) : nullptr;
}

std::optional<Product> Run::open_product() {
  OpStep& step = program_.steps[next_];
  // What is packed or replaced by a kernel of ours is not simply a product.
  if (inherited(step) != nullptr || step.packed || step.op->kernel != nullptr) return std::nullopt;
  std::optional<Product> out;
  const SharedError error = caught("product", [&] {
    pin(next_);
    prepare(step);
    if (step.op->check != nullptr) step.op->check(*step.op, stack_);
    out = product_of(*step.op->product, stack_);
    if (out) out->content = matrix_cell().content;
  });
  stack_.clear();
  if (error == nullptr && out) return out;
  drop_product();
  return std::nullopt;
}

void Run::drop_product() {
  program_.steps[next_].built = false;
  unpin(next_);
}

void Run::close_product(const std::function<at::Tensor()>& made) {
  const graph::Entry& entry = plan_.entries[next_];
  const OpStep& step = program_.steps[next_];
  SharedError error;
  stack_.clear();
  try {
    stack_.emplace_back(made());
  } catch (const std::exception&) {  // Alone there may be room for it.
    return drop_product();
  }
  try {
    take_results(step, entry);
    ++session_.ops_executed;
  } catch (const std::exception& exception) {
    error = translate(exception, describe(step));
  }
  stack_.clear();
  if (error != nullptr) fail(step, entry, error);
  end_entry(next_);
}

}  // namespace djinn::server
