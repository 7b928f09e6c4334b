// SPDX-License-Identifier: Apache-2.0
#include "server/torch/program.h"

#include <algorithm>
#include <optional>

namespace djinn::server {
namespace {

using graph::Arg;
using graph::ArgKind;
using graph::Entry;
using graph::EntryKind;
using graph::ResultKind;
using graph::ResultSlot;

bool is_number(ArgKind kind) {
  return kind == ArgKind::kInt || kind == ArgKind::kFloat || kind == ArgKind::kComplex ||
         kind == ArgKind::kBool;
}

class Builder {
 public:
  Builder(const graph::Plan& plan, OperatorTable& table, c10::Device device)
      : plan_(plan), table_(table), device_(device), program_(std::make_unique<Program>()) {}

  Result<std::unique_ptr<Program>> build() {
    std::vector<const OperatorInfo*> ops;
    for (const std::string& name : plan_.ops) {
      DJINN_TRY(const OperatorInfo* const op, table_.find(name));
      ops.push_back(op);
    }
    program_->steps.resize(plan_.entries.size());
    for (size_t i = 0; i < plan_.entries.size(); ++i) {
      const Entry& entry = plan_.entries[i];
      if (entry.kind != EntryKind::kOp && entry.kind != EntryKind::kDeferredOp) continue;
      OpStep& step = program_->steps[i];
      step.op = ops[entry.op];
      DJINN_TRY([[maybe_unused]] const Unit args, add_args(step, entry));
      DJINN_TRY([[maybe_unused]] const Unit results, check_results(step, entry));
      step.writes.count = static_cast<uint32_t>(program_->writes.size()) - step.writes.first;
    }
    program_->slots.resize(plan_.slots.size());
    program_->cells.resize(plan_.slots.size());
    program_->dying_ends.resize(plan_.entries.size());
    return std::move(program_);
  }

 private:
  Error wrong(const OperatorInfo& op, size_t place, const char* what) const {
    return {ErrorCode::kInvalid,
            op.name + ": argument " + op.handle.schema().arguments()[place].name() + " " + what};
  }

  Result<> add_args(OpStep& step, const Entry& entry) {
    const OperatorInfo& op = *step.op;
    if (entry.arg_count != op.args.size()) {
      return Error{ErrorCode::kInvalid, op.name + ": " + std::to_string(entry.arg_count) +
                                            " arguments, it takes " +
                                            std::to_string(op.args.size())};
    }
    step.args = {.first = size(program_->values), .count = entry.arg_count};
    step.variables.first = size(program_->variables);
    step.operands.first = size(program_->operands);
    step.writes.first = size(program_->writes);
    program_->values.resize(program_->values.size() + entry.arg_count);
    for (uint32_t i = 0; i < entry.arg_count; ++i) {
      DJINN_TRY([[maybe_unused]] const Unit added, add_arg(step, entry, i));
    }
    step.variables.count = size(program_->variables) - step.variables.first;
    step.operands.count = size(program_->operands) - step.operands.first;
    if (reads_what_it_overwrites(step)) step.overwritten = graph::kNone;
    return Unit{};
  }

  // The destination is also a source: its bytes are read before they are written.
  [[nodiscard]] bool reads_what_it_overwrites(const OpStep& step) const {
    if (step.overwritten == graph::kNone) return false;
    const auto operands = program_->of(program_->operands, step.operands);
    return std::ranges::any_of(operands, [&](uint32_t operand) {
      return operand != step.overwritten &&
             plan_.operands[operand].slot == plan_.operands[step.overwritten].slot;
    });
  }

  Result<> add_arg(OpStep& step, const Entry& entry, uint32_t place) {
    const OperatorInfo& op = *step.op;
    const uint32_t index = entry.first_arg + place;
    const Arg& arg = plan_.args[index];
    const ArgInfo& info = op.args[place];
    c10::IValue& value = program_->values[step.args.first + place];
    if (arg.kind == ArgKind::kNothing) {
      if (info.type == ArgType::kGenerator) {  // None draws from the session's default generator.
        program_->variables.push_back({Source::kGenerator, place, index});
        return Unit{};
      }
      if (!info.optional) return wrong(op, place, "must not be none");
      return Unit{};
    }
    const char* const problem = set(step, info, place, index, value);
    if (problem != nullptr) return wrong(op, place, problem);
    return note_writes(step, entry, place);
  }

  // Boxes a constant or notes a variable. Null, or what is wrong.
  const char* set(OpStep& step, const ArgInfo& info, uint32_t place, uint32_t index,
                  c10::IValue& value) {
    const Arg& arg = plan_.args[index];
    const auto variable = [&](Source source) -> const char* {
      program_->variables.push_back({source, place, index});
      return nullptr;
    };
    const auto expect = [&](ArgKind kind, Source source, const char* what) -> const char* {
      return arg.kind == kind ? variable(source) : what;
    };
    switch (info.type) {
      case ArgType::kTensor:
        return set_tensor(step, info, place, index, value);
      case ArgType::kTensors:
      case ArgType::kOptionalTensors:
        return set_tensors(step, info, place, index);
      case ArgType::kInt:
        return expect(ArgKind::kInt, Source::kInt, "must be an int");
      case ArgType::kScalarType:
        return expect(ArgKind::kInt, Source::kScalarType, "must be an element type");
      case ArgType::kLayout:
        return expect(ArgKind::kInt, Source::kLayout, "must be a layout");
      case ArgType::kMemoryFormat:
        return expect(ArgKind::kInt, Source::kMemoryFormat, "must be a memory format");
      case ArgType::kFloat:
        return expect(ArgKind::kFloat, Source::kFloat, "must be a float");
      case ArgType::kGenerator:
        return expect(ArgKind::kGenerator, Source::kGenerator, "must be a generator");
      case ArgType::kBool:
        if (arg.kind != ArgKind::kBool) return "must be a bool";
        if (arg.flag && info.never) return "must be false";
        value = arg.flag;
        return nullptr;
      case ArgType::kString:
        if (arg.kind != ArgKind::kString) return "must be a string";
        value = plan_.strings[arg.first];
        return nullptr;
      case ArgType::kDevice:
        value = arg.kind == ArgKind::kHostDevice ? c10::Device(c10::kCPU) : device_;
        return arg.kind == ArgKind::kDevice || arg.kind == ArgKind::kHostDevice
                   ? nullptr
                   : "must be a device";
      case ArgType::kScalar:
        if (arg.kind == ArgKind::kBool) value = c10::Scalar(arg.flag);
        if (arg.kind == ArgKind::kInt) return variable(Source::kInt);
        if (arg.kind == ArgKind::kFloat) return variable(Source::kFloat);
        if (arg.kind == ArgKind::kComplex) return variable(Source::kComplex);
        return arg.kind == ArgKind::kBool ? nullptr : "must be a number";
      default:
        return set_numbers(info, place, index, value);
    }
  }

  const char* set_numbers(const ArgInfo& info, uint32_t place, uint32_t index, c10::IValue& value) {
    const Arg& arg = plan_.args[index];
    const bool empty = arg.kind == ArgKind::kList && arg.count == 0;
    const auto variable = [&](Source source) -> const char* {
      program_->variables.push_back({source, place, index});
      return nullptr;
    };
    const auto items = std::span(plan_.args)
                           .subspan(arg.kind == ArgKind::kList ? arg.first : 0,
                                    arg.kind == ArgKind::kList ? arg.count : 0);
    switch (info.type) {
      case ArgType::kInts:
        return arg.kind == ArgKind::kInts || empty ? variable(Source::kInts) : "must be ints";
      case ArgType::kFloats:
        return arg.kind == ArgKind::kFloats || empty ? variable(Source::kFloats) : "must be floats";
      case ArgType::kScalars:
        if (arg.kind == ArgKind::kInts || arg.kind == ArgKind::kFloats) {
          return variable(Source::kScalars);
        }
        if (arg.kind != ArgKind::kList) return "must be numbers";
        for (const Arg& item : items) {
          if (!is_number(item.kind)) return "must be numbers";
        }
        return variable(Source::kScalars);
      case ArgType::kBools: {
        if (arg.kind != ArgKind::kList) return "must be bools";
        c10::List<bool> list;
        for (const Arg& item : items) {
          if (item.kind != ArgKind::kBool) return "must be bools";
          list.push_back(item.flag);
        }
        if (info.exactly >= 0 && static_cast<int64_t>(list.size()) != info.exactly) {
          return "has the wrong number of bools";
        }
        value = std::move(list);
        return nullptr;
      }
      default:
        return "is of a kind that no plan can hold";
    }
  }

  const char* set_tensor(OpStep& step, const ArgInfo& info, uint32_t place, uint32_t index,
                         c10::IValue& value) {
    const Arg& arg = plan_.args[index];
    // Few kernels look whether a tensor is there if the schema says it must be.
    const bool may_lack = info.optional || step.op->kernel != nullptr;
    if (arg.kind == ArgKind::kUndefined && !info.written && may_lack) {
      value = at::Tensor();
      return nullptr;
    }
    if (arg.kind == ArgKind::kCpuScalar && !info.written) {
      program_->variables.push_back({Source::kCpuScalar, place, index});
      return nullptr;
    }
    if (arg.kind != ArgKind::kTensor) return "must be a tensor on the device";
    program_->variables.push_back({Source::kTensor, place, index});
    program_->operands.push_back(arg.first);
    if (place == 0 && step.op->overwrites_first) step.overwritten = arg.first;
    return nullptr;
  }

  const char* set_tensors(OpStep&, const ArgInfo& info, uint32_t place, uint32_t index) {
    const Arg& arg = plan_.args[index];
    if (arg.kind != ArgKind::kList) return "must be a list of tensors";
    const bool optional = info.type == ArgType::kOptionalTensors;
    for (uint32_t i = 0; i < arg.count; ++i) {
      const Arg& item = plan_.args[arg.first + i];
      const bool absent = item.kind == ArgKind::kNothing || item.kind == ArgKind::kUndefined;
      if (item.kind == ArgKind::kTensor) {
        program_->operands.push_back(item.first);
      } else if (!(absent && optional) && !(item.kind == ArgKind::kCpuScalar && !info.written)) {
        return "must be a list of tensors on the device";
      }
    }
    program_->variables.push_back(
        {optional ? Source::kOptionalTensors : Source::kTensors, place, index});
    return nullptr;
  }

  // Which slots the operator changes through this argument, openly or not.
  Result<> note_writes(OpStep& step, const Entry& entry, uint32_t place) {
    const operators::HiddenWrites* hidden = step.op->hidden;
    bool written = step.op->args[place].written;
    if (hidden != nullptr && place < 32 && ((hidden->arguments >> place) & 1U) != 0) {
      const auto condition = static_cast<uint32_t>(hidden->only_if);
      written |= hidden->only_if < 0 || plan_.args[entry.first_arg + condition].flag;
    }
    if (!written) return Unit{};
    const Arg& arg = plan_.args[entry.first_arg + place];
    const auto write = [&](const Arg& tensor) {
      if (tensor.kind != ArgKind::kTensor) return tensor.kind != ArgKind::kCpuScalar;
      program_->writes.push_back(plan_.operands[tensor.first].slot);
      return true;
    };
    bool fine = true;
    if (arg.kind == ArgKind::kList) {
      for (uint32_t i = 0; i < arg.count; ++i) fine &= write(plan_.args[arg.first + i]);
    } else {
      fine = write(arg);
    }
    if (!fine) return wrong(*step.op, place, "is written and must be on the device");
    return Unit{};
  }

  Result<> check_results(const OpStep& step, const Entry& entry) const {
    const OperatorInfo& op = *step.op;
    if (entry.result_count != op.returns.size()) {
      return Error{ErrorCode::kInvalid, op.name + ": " + std::to_string(entry.result_count) +
                                            " results, it has " +
                                            std::to_string(op.returns.size())};
    }
    for (uint32_t i = 0; i < entry.result_count; ++i) {
      const ResultSlot& result = plan_.results[entry.first_result + i];
      const ReturnInfo& info = op.returns[i];
      const bool list = result.kind == ResultKind::kList;
      const bool tensor = result.kind == ResultKind::kTensor ||
                          result.kind == ResultKind::kDeferred ||
                          result.kind == ResultKind::kUndefined;
      const bool fits = result.kind == ResultKind::kNotNew
                            ? info.aliases || info.type == ReturnType::kNumber
                            : !info.aliases && ((list && info.type == ReturnType::kTensors) ||
                                                (tensor && info.type == ReturnType::kTensor));
      if (!fits) {
        return Error{ErrorCode::kInvalid,
                     op.name + ": result " + std::to_string(i) + " is not of that kind"};
      }
    }
    return Unit{};
  }

  template <typename T>
  static uint32_t size(const std::vector<T>& list) {
    return static_cast<uint32_t>(list.size());
  }

  const graph::Plan& plan_;
  OperatorTable& table_;
  c10::Device device_;
  std::unique_ptr<Program> program_;
};

}  // namespace

Result<std::unique_ptr<Program>> build_program(const graph::Plan& plan, OperatorTable& table,
                                               c10::Device device) {
  return Builder(plan, table, device).build();
}

}  // namespace djinn::server
