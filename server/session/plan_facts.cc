// SPDX-License-Identifier: Apache-2.0
#include "server/session/plan_facts.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

namespace djinn::server {
namespace {

// Where an operator has its two factors.
struct Factors {
  std::string_view op;
  uint32_t left = 0;
  uint32_t right = 1;
  bool transposed = false;
  bool convolves = false;
  bool batched = false;
};
constexpr std::array<Factors, 8> kProducts{{
    {.op = "aten::mm"},
    {.op = "aten::matmul"},
    {.op = "aten::addmm", .left = 1, .right = 2},
    {.op = "aten::linear", .transposed = true},
    {.op = "aten::bmm", .batched = true},
    {.op = "aten::baddbmm", .left = 1, .right = 2, .batched = true},
    {.op = "aten::convolution", .convolves = true},
    {.op = "aten::conv2d", .convolves = true},
}};

constexpr std::array<std::string_view, 6> kExtends{"aten::cat",        "aten::index_copy_",
                                                   "aten::index_put_", "aten::slice_scatter",
                                                   "aten::_softmax",   "aten::softmax.int"};

uint64_t times(uint64_t a, uint64_t b) {
  uint64_t out = 0;
  return __builtin_mul_overflow(a, b, &out) ? kManyElements : std::min(out, kManyElements);
}

uint64_t elements(const graph::Operand& operand, std::span<const int64_t> numbers) {
  uint64_t out = 1;
  for (const int64_t size : numbers.subspan(operand.sizes, operand.rank)) {
    if (size < 0) return kManyElements;
    out = times(out, static_cast<uint64_t>(size));
  }
  return out;
}

uint64_t size_of(const graph::Operand& operand, std::span<const int64_t> numbers, uint32_t d) {
  if (d >= operand.rank) return 1;
  return static_cast<uint64_t>(std::clamp<int64_t>(numbers[operand.sizes + d], 0, kManyElements));
}

}  // namespace

PlanFacts::PlanFacts(const graph::Plan& plan) {
  for (const std::string& op : plan.ops) {
    trains_ = trains_ || op.find("_backward") != std::string::npos;
    attends_ = attends_ || op.find("attention") != std::string::npos ||
               std::ranges::find(kExtends, op) != kExtends.end();
  }
  for (const graph::Entry& entry : plan.entries) {
    if (is_operator(entry)) ++operators_;
    if (entry.kind == graph::EntryKind::kOp) note_product(plan, entry);
  }
}

void PlanFacts::note_product(const graph::Plan& plan, const graph::Entry& entry) {
  const auto factors = std::ranges::find(kProducts, plan.ops[entry.op], &Factors::op);
  if (factors == kProducts.end() || entry.arg_count <= factors->right) return;
  const auto operand = [&](uint32_t place) -> std::optional<uint32_t> {
    const graph::Arg& arg = plan.args[entry.first_arg + place];
    if (arg.kind != graph::ArgKind::kTensor) return std::nullopt;
    return arg.first;
  };
  auto left = operand(factors->left);
  const auto right = operand(factors->right);
  if (factors->convolves) {
    const bool has_result = entry.result_count > 0 &&
                            plan.results[entry.first_result].kind == graph::ResultKind::kTensor;
    left = has_result ? std::optional(plan.results[entry.first_result].first) : std::nullopt;
  }
  if (!left || !right) return;
  products_.push_back({.left = *left,
                       .right = *right,
                       .transposed = factors->transposed,
                       .convolves = factors->convolves,
                       .batched = factors->batched});
}

JobSize PlanFacts::size(const graph::Plan& plan, std::span<const int64_t> numbers) const {
  JobSize out;
  for (const graph::Operand& operand : plan.operands) {
    if (operand.slot == graph::kNone) continue;
    out.elements = std::min(out.elements + elements(operand, numbers), kManyElements);
  }
  for (const Product& product : products_) {
    const graph::Operand& left = plan.operands[product.left];
    const graph::Operand& right = plan.operands[product.right];
    const uint64_t of_left = elements(left, numbers);
    uint64_t inner_or_columns = 0;
    if (product.convolves) {
      const uint64_t outputs = std::max<uint64_t>(size_of(right, numbers, 0), 1);
      inner_or_columns = elements(right, numbers) / outputs;
    } else {
      inner_or_columns =
          size_of(right, numbers, product.transposed || right.rank == 0 ? 0 : right.rank - 1U);
    }
    out.flops = std::min(out.flops + times(2 * of_left, inner_or_columns), kManyElements);
    if (product.convolves || product.batched || left.rank == 0) continue;
    const uint64_t inner = std::max<uint64_t>(size_of(left, numbers, left.rank - 1U), 1);
    out.rows = std::max(out.rows, of_left / inner);
  }
  return out;
}

JobPhase PlanFacts::phase(const JobSize& size) const {
  if (trains_) return JobPhase::kTraining;
  if (products_.empty()) return JobPhase::kUnknown;
  if (!attends_ || size.rows == 0) return JobPhase::kInference;
  return size.rows <= kDecodeRowsMax ? JobPhase::kDecode : JobPhase::kPrefill;
}

}  // namespace djinn::server
