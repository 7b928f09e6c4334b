// SPDX-License-Identifier: Apache-2.0
#include "client/torch/op_info.h"

#include <array>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "client/torch/shape_rules.h"
#include "operators/allow_list.h"

namespace djinn::client {
namespace {

// The argument that a result is, by the schema's alias sets; -1 if it is new.
int aliased_argument(const c10::FunctionSchema& schema, const c10::Argument& result) {
  const c10::AliasInfo* const of_result = result.alias_info();
  if (of_result == nullptr) return -1;
  TORCH_CHECK(of_result->isWrite(), "djinn: ", schema.operator_name(),
              " returns a view and cannot be recorded; please report it");
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    const c10::AliasInfo* const of_arg = schema.arguments()[i].alias_info();
    if (of_arg != nullptr && of_arg->isWrite() && of_arg->beforeSets() == of_result->beforeSets()) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

bool floats_decide_shapes(const std::string& name) {
  static constexpr std::array<const char*, 7> kPrefixes{
      "aten::arange",   "aten::range",     "aten::linspace", "aten::logspace",
      "aten::upsample", "aten::_upsample", "aten::histogram"};
  return std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](const char* prefix) { return name.starts_with(prefix); });
}

bool may_know_shapes(const c10::OperatorHandle& handle) {
  using c10::DispatchKey;
  for (const auto key : {DispatchKey::Meta, DispatchKey::CompositeExplicitAutograd,
                         DispatchKey::CompositeExplicitAutogradNonFunctional,
                         DispatchKey::CompositeImplicitAutograd}) {
    if (handle.hasKernelForDispatchKey(key)) return true;
  }
  return false;
}

}  // namespace

OpInfo::OpInfo(const c10::OperatorHandle& operator_handle)
    : handle(operator_handle), name(toString(handle.schema().operator_name())) {
  const c10::FunctionSchema& schema = handle.schema();
  arg_count = schema.arguments().size();
  all_alias = true;
  for (const c10::Argument& result : schema.returns()) {
    alias.push_back(aliased_argument(schema, result));
    all_alias &= alias.back() >= 0;
  }
  for (size_t i = 0; i < arg_count; ++i) {
    const c10::Argument& arg = schema.arguments()[i];
    out_of_place |= arg.is_out();
    if (arg.type()->str().find("Generator") != std::string::npos) generator_arg = i;
  }
  deferred =
      handle.hasTag(at::Tag::dynamic_output_shape) || handle.hasTag(at::Tag::data_dependent_output);
  if (name.name == "aten::index.Tensor") deferred = false;  // Only with boolean indices.
  if (name.name == "aten::_ctc_loss") deferred = false;
  random = handle.hasTag(at::Tag::nondeterministic_seeded);
  floats_shape = floats_decide_shapes(name.name);
  allowed = operators::is_allowed(name.name);
  has_meta = may_know_shapes(handle);
  rule = shape_rule(name.name);
}

OpInfo& op_info(const c10::OperatorHandle& handle) {
  using Table = std::unordered_map<const c10::FunctionSchema*, std::unique_ptr<OpInfo>>;
  static std::shared_mutex mutex;
  static auto* const table = new Table;
  const c10::FunctionSchema* const key = &handle.schema();
  {
    const std::shared_lock lock(mutex);
    if (const auto found = table->find(key); found != table->end()) return *found->second;
  }
  auto made = std::make_unique<OpInfo>(handle);
  const std::unique_lock lock(mutex);
  return *table->try_emplace(key, std::move(made)).first->second;
}

}  // namespace djinn::client
