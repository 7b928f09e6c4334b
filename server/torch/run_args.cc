// SPDX-License-Identifier: Apache-2.0
// The arguments of an operator: numbers and tensors onto the stack.
#include <bit>
#include <cstring>

#include <ATen/ATen.h>
#include <ATen/core/List.h>

#include "operators/dtypes.h"
#include "server/torch/problem.h"
#include "server/torch/run.h"

namespace djinn::server {
namespace {

using graph::Arg;
using graph::ArgKind;

double as_double(int64_t number) { return std::bit_cast<double>(number); }

c10::Scalar scalar(const Arg& arg, std::span<const int64_t> numbers) {
  switch (arg.kind) {
    case ArgKind::kBool:
      return arg.flag;
    case ArgKind::kInt:
      return numbers[arg.first];
    case ArgKind::kComplex:
      return c10::complex<double>(as_double(numbers[arg.first]), as_double(numbers[arg.first + 1]));
    default:
      return as_double(numbers[arg.first]);
  }
}

// The numbers of a CPU scalar are ints or floats by its dtype.
at::Tensor cpu_scalar(const Arg& arg, std::span<const int64_t> numbers) {
  c10::Scalar value;
  if (graph::is_complex(arg.dtype)) {
    value = c10::complex<double>(as_double(numbers[arg.first]), as_double(numbers[arg.first + 1]));
  } else if (graph::is_floating(arg.dtype)) {
    value = as_double(numbers[arg.first]);
  } else if (arg.dtype == graph::Dtype::kUint64) {
    value = static_cast<uint64_t>(numbers[arg.first]);
  } else if (arg.dtype == graph::Dtype::kBool) {
    value = numbers[arg.first] != 0;
  } else {
    value = numbers[arg.first];
  }
  at::Tensor tensor = at::empty({}, at::TensorOptions().dtype(operators::to_torch(arg.dtype)));
  tensor.fill_(value);
  if (arg.flag) tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

int64_t checked_enum(Source source, int64_t value) {
  if (source == Source::kScalarType) {
    const bool known = value >= 0 && value < static_cast<int64_t>(c10::ScalarType::NumOptions) &&
                       operators::from_torch(static_cast<c10::ScalarType>(value)).has_value();
    if (!known) throw Problem(ErrorCode::kInvalid, "no such element type");
  } else if (source == Source::kLayout) {
    if (value != static_cast<int64_t>(c10::Layout::Strided)) {
      throw Problem(ErrorCode::kUnsupported, "only strided tensors");
    }
  } else if (value < 0 || value > static_cast<int64_t>(c10::MemoryFormat::ChannelsLast3d)) {
    throw Problem(ErrorCode::kInvalid, "no such memory format");
  }
  return value;
}

}  // namespace

// What depends on no number is boxed in the program; lists of numbers are boxed again only if they
// have changed since the step's last run.
void Run::prepare(OpStep& step) {
  for (const uint32_t index : program_.of(program_.operands, step.operands)) {
    const graph::Operand& operand = plan_.operands[index];
    Cell& read = cell(operand.slot);
    if (read.storage) continue;
    const bool overwritten = index == step.overwritten && covers(read, geometry(operand));
    materialise(read, overwritten ? Fill::kNone : Fill::kZero);
  }
  for (const uint32_t slot : program_.of(program_.writes, step.writes)) make_writable(cell(slot));

  const auto values = program_.values.begin() + step.args.first;
  stack_.assign(values, values + step.args.count);
  for (uint32_t i = 0; i < step.variables.count; ++i) {
    const Variable& variable = program_.variables[step.variables.first + i];
    box(step, variable, stack_[variable.place]);
  }
  step.built = true;
}

void Run::box(const OpStep& step, const Variable& variable, c10::IValue& out) {
  const Arg& arg = plan_.args[variable.arg];
  switch (variable.source) {
    case Source::kTensor:
      out = view(plan_.operands[arg.first]);
      return;
    case Source::kTensors:
      out = tensors(arg);
      return;
    case Source::kOptionalTensors:
      out = optional_tensors(arg);
      return;
    case Source::kInt:
      out = numbers_[arg.first];
      return;
    case Source::kFloat:
      out = as_double(numbers_[arg.first]);
      return;
    case Source::kComplex:
      out = scalar(arg, numbers_);
      return;
    case Source::kScalarType:
    case Source::kLayout:
    case Source::kMemoryFormat:
      out = checked_enum(variable.source, numbers_[arg.first]);
      return;
    case Source::kGenerator:
      out = session_.generators.get(arg.kind == ArgKind::kGenerator ? numbers_[arg.first] : 0);
      return;
    default:
      break;
  }
  // A mixed list has its numbers in several places; it is rare enough to be boxed each time.
  const bool mixed = arg.kind == ArgKind::kList;
  c10::IValue& kept = program_.values[step.args.first + variable.place];
  if (mixed || !step.built || program_.last == nullptr || !same(arg)) {
    kept = list_of_numbers(variable.source, arg);
    out = kept;
  }
}

bool Run::same(const Arg& arg) const {
  return std::memcmp(program_.last->data() + arg.first, numbers_.data() + arg.first,
                     arg.count * sizeof(int64_t)) == 0;
}

c10::IValue Run::list_of_numbers(Source source, const Arg& arg) const {
  if (source == Source::kCpuScalar) return cpu_scalar(arg, numbers_);
  const bool items = arg.kind == ArgKind::kList;
  const auto numbers = numbers_.subspan(items ? 0 : arg.first, items ? 0 : arg.count);
  if (source == Source::kInts) {
    c10::List<int64_t> list;
    list.reserve(numbers.size());
    for (const int64_t number : numbers) list.push_back(number);
    return list;
  }
  if (source == Source::kFloats) {
    c10::List<double> list;
    list.reserve(numbers.size());
    for (const int64_t number : numbers) list.push_back(as_double(number));
    return list;
  }
  c10::List<c10::Scalar> list;
  for (const int64_t number : numbers) {
    list.push_back(arg.kind == ArgKind::kInts ? c10::Scalar(number) : as_double(number));
  }
  for (uint32_t i = 0; items && i < arg.count; ++i) {
    list.push_back(scalar(plan_.args[arg.first + i], numbers_));
  }
  return list;
}

at::Tensor Run::item(const Arg& arg) {
  if (arg.kind == ArgKind::kTensor) return view(plan_.operands[arg.first]);
  if (arg.kind == ArgKind::kCpuScalar) return cpu_scalar(arg, numbers_);
  return {};
}

c10::IValue Run::tensors(const Arg& arg) {
  c10::List<at::Tensor> list;
  list.reserve(arg.count);
  for (uint32_t i = 0; i < arg.count; ++i) list.push_back(item(plan_.args[arg.first + i]));
  return list;
}

c10::IValue Run::optional_tensors(const Arg& arg) {
  c10::List<std::optional<at::Tensor>> list;
  list.reserve(arg.count);
  for (uint32_t i = 0; i < arg.count; ++i) {
    const Arg& each = plan_.args[arg.first + i];
    list.push_back(each.kind == ArgKind::kNothing ? std::nullopt : std::optional(item(each)));
  }
  return list;
}

}  // namespace djinn::server
