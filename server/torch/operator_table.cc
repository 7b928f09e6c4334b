// SPDX-License-Identifier: Apache-2.0
#include "server/torch/operator_table.h"

#include <algorithm>
#include <array>

#include <ATen/core/enum_tag.h>
#include <ATen/core/jit_type.h>

#include "operators/allow_list.h"
#include "operators/census.h"
#include "server/torch/index_checks.h"
#include "server/torch/operator_checks.h"

namespace djinn::server {
namespace {

using c10::TypeKind;

ArgType list_of(const c10::TypePtr& element) {
  switch (element->kind()) {
    case TypeKind::TensorType:
      return ArgType::kTensors;
    case TypeKind::IntType:
    case TypeKind::SymIntType:
      return ArgType::kInts;
    case TypeKind::FloatType:
      return ArgType::kFloats;
    case TypeKind::BoolType:
      return ArgType::kBools;
    case TypeKind::NumberType:
      return ArgType::kScalars;
    case TypeKind::OptionalType: {
      const auto& inner = element->expectRef<c10::OptionalType>().getElementType();
      return inner->kind() == TypeKind::TensorType ? ArgType::kOptionalTensors
                                                   : ArgType::kUnsupported;
    }
    default:
      return ArgType::kUnsupported;
  }
}

ArgType arg_type(const c10::TypePtr& type) {
  switch (type->kind()) {
    case TypeKind::TensorType:
      return ArgType::kTensor;
    case TypeKind::IntType:
    case TypeKind::SymIntType:
      return ArgType::kInt;
    case TypeKind::FloatType:
      return ArgType::kFloat;
    case TypeKind::BoolType:
      return ArgType::kBool;
    case TypeKind::NumberType:
      return ArgType::kScalar;
    case TypeKind::StringType:
      return ArgType::kString;
    case TypeKind::DeviceObjType:
      return ArgType::kDevice;
    case TypeKind::GeneratorType:
      return ArgType::kGenerator;
    case TypeKind::ScalarTypeType:
      return ArgType::kScalarType;
    case TypeKind::LayoutType:
      return ArgType::kLayout;
    case TypeKind::MemoryFormatType:
      return ArgType::kMemoryFormat;
    case TypeKind::ListType:
      return list_of(type->expectRef<c10::ListType>().getElementType());
    default:
      return ArgType::kUnsupported;
  }
}

ArgInfo describe_arg(const c10::Argument& argument) {
  ArgInfo info;
  c10::TypePtr type = argument.real_type();
  if (type->kind() == TypeKind::OptionalType) {
    info.optional = true;
    type = type->expectRef<c10::OptionalType>().getElementType();
  }
  info.type = arg_type(type);
  info.written = argument.alias_info() != nullptr && argument.alias_info()->isWrite();
  info.never = argument.name() == "pin_memory";  // Pinned memory has no budget.
  if (info.type == ArgType::kBools && argument.N()) info.exactly = *argument.N();
  return info;
}

Result<ReturnInfo> describe_return(const c10::Argument& argument) {
  ReturnInfo info;
  const c10::AliasInfo* alias = argument.alias_info();
  info.aliases = alias != nullptr && alias->isWrite();
  if (alias != nullptr && !alias->isWrite()) {
    return Error{ErrorCode::kUnsupported, "it returns a view; views are made by the client"};
  }
  switch (arg_type(argument.type())) {
    case ArgType::kTensor:
      info.type = ReturnType::kTensor;
      return info;
    case ArgType::kTensors:
      info.type = ReturnType::kTensors;
      return info;
    case ArgType::kInt:
    case ArgType::kFloat:
    case ArgType::kBool:
    case ArgType::kScalar:
      info.type = ReturnType::kNumber;
      return info;
    default:
      return Error{ErrorCode::kUnsupported, "it returns what no answer can hold"};
  }
}

// These fill a destination without reading it, so its bytes need not be zeroed before.
bool overwrites_first(std::string_view name) {
  static constexpr std::array<std::string_view, 9> kNames{
      "aten::copy_",      "aten::fill_.Scalar", "aten::fill_.Tensor",
      "aten::normal_",    "aten::random_",      "aten::random_.from",
      "aten::random_.to", "aten::uniform_",     "aten::zero_"};
  return std::ranges::binary_search(kNames, name);
}

const ProductInfo* product_of(std::string_view name) {
  static constexpr ProductInfo kProduct;
  static constexpr ProductInfo kLinear{.transposed = true, .bias = 2};
  static constexpr ProductInfo kSum{.rows = 1, .matrix = 2, .bias = 0, .beta = 3};
  if (name == "aten::mm" || name == "aten::matmul") return &kProduct;
  if (name == "aten::linear") return &kLinear;
  return name == "aten::addmm" ? &kSum : nullptr;
}

}  // namespace

Result<std::unique_ptr<OperatorInfo>> describe_operator(const c10::OperatorHandle& op) {
  const std::string name = operators::operator_name(op);
  auto info = std::make_unique<OperatorInfo>(OperatorInfo{.name = name, .handle = op});
  const c10::FunctionSchema& schema = op.schema();
  size_t written_results = 0;
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    const c10::Argument& argument = schema.arguments()[i];
    info->args.push_back(describe_arg(argument));
    if (info->args.back().type == ArgType::kUnsupported) {
      return Error{ErrorCode::kUnsupported, name + ": no plan can hold its argument " +
                                                argument.name() + " of type " +
                                                argument.real_type()->str()};
    }
    if (info->args.back().type == ArgType::kGenerator) info->generator = static_cast<int32_t>(i);
  }
  if (schema.is_vararg() || schema.is_varret()) {
    return Error{ErrorCode::kUnsupported, name + ": takes any number of arguments"};
  }
  for (const c10::Argument& argument : schema.returns()) {
    auto returned = describe_return(argument);
    if (!returned) return Error{returned.error().code, name + ": " + returned.error().message};
    info->returns.push_back(*returned);
    written_results += returned->aliases ? 1 : 0;
  }
  info->keeps_args = written_results > 1;
  info->schema_hash = operators::schema_text_hash(op);
  info->hidden = operators::find_hidden_writes(name);
  info->default_generator = info->generator < 0 && op.hasTag(at::Tag::nondeterministic_seeded);
  info->overwrites_first = overwrites_first(name);
  info->product = product_of(name);
  info->check = check_of(name);
  return info;
}

void call_kernel(const OperatorInfo& op, Stack& stack, c10::DispatchKeySet keys) {
  if (op.check != nullptr) op.check(op, stack);
  if (op.index_check != nullptr) op.index_check(op, stack);
  if (op.kernel != nullptr) {
    op.kernel(stack);
  } else {
    op.handle.redispatchBoxed(keys, &stack);
  }
}

Result<std::unique_ptr<OperatorInfo>> OperatorTable::describe(const std::string& name) const {
  const auto op = operators::find_operator(name);
  if (!op) return Error{ErrorCode::kUnsupported, name + ": LibTorch here has no such operator"};
  if (!operators::is_allowed(name)) {
    return Error{ErrorCode::kDenied, name + ": not on the list of operators that may run here"};
  }
  DJINN_TRY(auto info, describe_operator(*op));
  info->kernel = kernel_of_(name);
  if (checks_indices_) info->index_check = index_check_of(name);
  return info;
}

Result<const OperatorInfo*> OperatorTable::find(const std::string& name) {
  {
    const MutexLock lock(mutex_);
    const auto found = known_.find(name);
    if (found != known_.end()) return found->second.get();
  }
  DJINN_TRY(auto info, describe(name));
  const MutexLock lock(mutex_);
  return known_.try_emplace(name, std::move(info)).first->second.get();
}

}  // namespace djinn::server
