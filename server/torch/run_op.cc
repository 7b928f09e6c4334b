// SPDX-License-Identifier: Apache-2.0
// The operators of a run: call and errors.
#include <algorithm>
#include <sstream>

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include "operators/dtypes.h"
#include "server/torch/problem.h"
#include "server/torch/run.h"

namespace djinn::server {

void Run::op(uint32_t index) {
  const graph::Entry& entry = plan_.entries[index];
  OpStep& step = program_.steps[index];
  SharedError error = work_.refused != nullptr ? work_.refused : inherited(step);
  if (error == nullptr) {
    try {
      pin(index);
      compute(step);
      if (entry.kind == graph::EntryKind::kDeferredOp) {
        answer_deferred(step, entry);
      } else {
        take_results(step, entry);
      }
      ++session_.ops_executed;
    } catch (const std::exception& exception) {
      error = translate(exception, describe(step));
    } catch (...) {
      error = std::make_shared<const Error>(Error{ErrorCode::kFailed, step.op->name});
    }
  } else {
    step.built = false;
  }
  stack_.clear();
  kept_.clear();
  if (error != nullptr) fail(step, entry, error);
}

// Near the edge what is free may lie in pieces between operands that nobody may move while they are
// in use. Then they are moved and the operator runs again, if nothing of it has happened yet; and
// packed memory is what it finds the next time.
void Run::compute(OpStep& step) {
  if (step.packed) repack(step);
  try {
    prepare(step);
    call(step);
    return;
  } catch (const c10::OutOfMemoryError&) {
    if (step.packed || !may_repeat(step)) throw;
  }
  stack_.clear();
  kept_.clear();
  repack(step);
  step.packed = true;
  prepare(step);
  call(step);
}

bool Run::may_repeat(const OpStep& step) const {
  if (tiers_ == nullptr || pinned_.empty() || step.writes.count > 0 || step.op->default_generator) {
    return false;
  }
  const auto variables =
      std::span(program_.variables).subspan(step.variables.first, step.variables.count);
  return std::ranges::none_of(
      variables, [](const Variable& each) { return each.source == Source::kGenerator; });
}

SharedError Run::inherited(const OpStep& step) {
  for (const uint32_t operand : program_.of(program_.operands, step.operands)) {
    const Cell& read = cell(plan_.operands[operand].slot);
    if (read.error != nullptr) return read.error;
  }
  return nullptr;
}

void Run::call(const OpStep& step) {
  const OperatorInfo& op = *step.op;
  if (op.keeps_args) kept_ = stack_;
  const auto run = [&] { call_kernel(op, stack_, session_.keys); };
  if (op.default_generator) {
    session_.generators.as_default(run);
  } else {
    run();
  }
  if (stack_.size() != op.returns.size()) {
    throw Problem(ErrorCode::kFailed, "returned " + std::to_string(stack_.size()) + " results");
  }
}

void Run::fail(const OpStep& step, const graph::Entry& entry, const SharedError& error) {
  ++session_.ops_failed;
  for (const uint32_t slot : program_.of(program_.writes, step.writes)) {
    Cell& written = cell(slot);
    if (written.error == nullptr) written.fail(error);
  }
  for (uint32_t i = 0; i < entry.result_count; ++i) {
    fail_result(plan_.results[entry.first_result + i], error);
  }
  if (entry.kind == graph::EntryKind::kDeferredOp) answer(entry.answer, Error(*error));
}

// "aten::mm([8, 16] Float, [4, 4] Float)"
std::string Run::describe(const OpStep& step) const {
  std::ostringstream text;
  text << step.op->name << "(";
  const char* comma = "";
  constexpr size_t kOperandsMax = 8;
  size_t count = 0;
  for (const uint32_t index : program_.of(program_.operands, step.operands)) {
    if (count++ == kOperandsMax) {
      text << ", ...";
      break;
    }
    const graph::Operand& operand = plan_.operands[index];
    text << comma << c10::IntArrayRef(numbers_.data() + operand.sizes, operand.rank) << " "
         << operators::to_torch(operand.dtype);
    comma = ", ";
  }
  text << ")";
  return text.str();
}

}  // namespace djinn::server
