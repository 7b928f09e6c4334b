// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/operator_watch.h"

#include <mutex>
#include <set>
#include <vector>

#include <ATen/ATen.h>

namespace djinn::testing {
namespace {

std::mutex mutex;
OperatorWatch::Counts app_calls;
OperatorWatch::Counts client_calls;
OperatorWatch::Counts remote_calls;

struct Devices {
  bool host = false;
  bool remote = false;
  bool meta = false;

  void see(const at::Tensor& tensor) {
    if (!tensor.defined()) return;
    host |= tensor.is_cpu();
    remote |= tensor.device().type() == c10::kPrivateUse1;
    meta |= tensor.is_meta();
  }
  void see(const c10::IValue& value) {
    if (value.isTensor()) return see(value.toTensor());
    if (!value.isList()) return;
    for (const c10::IValue& item : value.toListRef()) see(item);
  }
};

struct Call : at::ObserverContext {
  const char* name = "";
  Call* outer = nullptr;
  Devices devices;
  bool called_remote = false;  // Another operator on the device, inside of this one.
};
thread_local Call* innermost = nullptr;

const Call* remote_call_around(const Call& call) {
  const Call* outer = call.outer;
  while (outer != nullptr && !outer->devices.remote) outer = outer->outer;
  return outer;
}

// Only metadata: tensors without content, and other geometry of tensors that are there.
bool makes_no_work(const at::RecordFunction& function) {
  static const std::set<std::string> metadata{"aten::empty",
                                              "aten::empty_strided",
                                              "aten::set_",
                                              "aten::resize_",
                                              "aten::detach_",
                                              "aten::squeeze_",
                                              "aten::t_",
                                              "aten::unsqueeze_",
                                              "aten::_has_compatible_shallow_copy_type",
                                              "aten::transpose_",
                                              "aten::as_strided_",
                                              "aten::is_same_size",
                                              "aten::new_empty_strided"};
  if (metadata.contains(function.name())) return true;
  const auto schema = function.operator_schema();
  if (!schema) return true;  // No operator: a scope of the app, or a node of autograd.
  for (const c10::Argument& result : schema->returns()) {
    if (result.alias_info() != nullptr && !result.alias_info()->isWrite()) return true;
  }
  return false;
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
  auto call = std::make_unique<Call>();
  for (const c10::IValue& value : function.inputs()) call->devices.see(value);
  call->name = function.name();
  call->outer = innermost;
  innermost = call.get();
  return call;
}

void end(const at::RecordFunction& function, at::ObserverContext* context) {
  auto& call = *static_cast<Call*>(context);
  innermost = call.outer;
  for (const c10::IValue& value : function.outputs()) call.devices.see(value);
  if (call.devices.remote && call.outer != nullptr) call.outer->called_remote = true;
  const bool host = call.devices.host && !call.devices.remote && !call.devices.meta;
  const bool remote = call.devices.remote && !call.called_remote && !makes_no_work(function);
  if (!host && !remote) return;
  const std::lock_guard lock(mutex);
  if (remote) {
    ++remote_calls[call.name];
  } else if (const Call* const around = remote_call_around(call)) {
    ++client_calls[std::string(call.name) + " in " + around->name];
  } else {
    ++app_calls[call.name];
  }
}

OperatorWatch::Counts copy(const OperatorWatch::Counts& counts) {
  const std::lock_guard lock(mutex);
  return counts;
}

}  // namespace

OperatorWatch::OperatorWatch() {
  {
    const std::lock_guard lock(mutex);
    app_calls.clear();
    client_calls.clear();
    remote_calls.clear();
  }
  handle_ = at::addGlobalCallback(
      at::RecordFunctionCallback(begin, end)
          .needsInputs(true)
          .needsOutputs(true)
          .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
}

OperatorWatch::~OperatorWatch() { at::removeCallback(handle_); }

OperatorWatch::Counts OperatorWatch::by_app() const { return copy(app_calls); }
OperatorWatch::Counts OperatorWatch::by_client() const { return copy(client_calls); }
OperatorWatch::Counts OperatorWatch::remote() const { return copy(remote_calls); }

uint64_t sum(const OperatorWatch::Counts& counts) {
  uint64_t total = 0;
  for (const auto& [name, count] : counts) total += count;
  return total;
}

std::string text(const OperatorWatch::Counts& counts) {
  std::string out;
  for (const auto& [name, count] : counts) out += name + " x" + std::to_string(count) + "\n";
  return out;
}

}  // namespace djinn::testing
