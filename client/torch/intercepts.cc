// SPDX-License-Identifier: Apache-2.0
// Intercepts: which operators reach the recorder.
//
// The fallback gets every operator that has no kernel for the device. Operators with a composite
// kernel would be decomposed or throw before that; those that the server should see whole are
// registered one by one, enumerated from the dispatcher.
#include <set>

#include <ATen/SDPBackend.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/DispatchStub.h>
#include <ATen/native/transformers/attention.h>
#include <torch/library.h>

#include "client/torch/recorder.h"
#include "client/torch/storage.h"
#include "operators/allow_list.h"
#include "operators/whole_composites.h"

namespace djinn::client {
namespace {

// The recorder, bound to one operator: its facts are found without a look-up.
struct RecordOne final : c10::OperatorKernel {
  void operator()(const c10::OperatorHandle& handle, c10::DispatchKeySet /*keys*/, Stack* stack) {
    OpInfo* known = info.load(std::memory_order_acquire);
    if (known == nullptr) {
      known = &op_info(handle);
      info.store(known, std::memory_order_release);
    }
    record(*known, *stack);
  }
  std::atomic<OpInfo*> info{nullptr};
};

bool wants_gradient(const at::Tensor& tensor) {
  return tensor.defined() && (tensor.requires_grad() || tensor._fw_grad(0).defined());
}

bool wants_gradients(const Stack& stack, size_t arguments) {
  if (!c10::GradMode::is_enabled()) return false;
  return std::ranges::any_of(torch::jit::last(stack, arguments), [](const c10::IValue& value) {
    return value.isTensor() && wants_gradient(value.toTensor());
  });
}

// A composite operator at autograd's place: decomposed where gradients are wanted, else recorded.
struct RecordWhole final : c10::OperatorKernel {
  void operator()(const c10::OperatorHandle& handle, c10::DispatchKeySet keys, Stack* stack) {
    if (wants_gradients(*stack, handle.schema().arguments().size())) {
      return handle.callBoxedForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd, *stack);
    }
    const at::AutoDispatchBelowADInplaceOrView below;
    one(handle, keys, stack);
  }
  RecordOne one;
};

bool returns_view(const c10::FunctionSchema& schema) {
  for (const c10::Argument& result : schema.returns()) {
    if (result.alias_info() != nullptr && !result.alias_info()->isWrite()) return true;
  }
  return false;
}

// Composite operators that the server runs as one: they throw here, or would become many.
const std::set<std::string>& whole_operators() {
  static const std::set<std::string> names{
      "conj_physical_",
      "convolution",
      "convolution_backward",
      "embedding",
      "logsumexp",
      "native_group_norm",
      "native_layer_norm",
      "_linalg_check_errors",
      "_scaled_dot_product_fused_attention_overrideable",
      "_scaled_dot_product_fused_attention_overrideable_backward",
      "index_put_",
      "_index_put_impl_",
      "masked_fill.Scalar",
      "masked_fill.Tensor",
      "repeat",
      "stack",
      "mean",
      "sum",
  };
  return names;
}

// "logsumexp.out" -> "logsumexp", "mean.names_out" -> "mean.names"; empty if it is no out= form.
std::string functional_form(const c10::OperatorName& op) {
  const std::string& overload = op.overload_name;
  if (overload == "out" || overload == "grad_input") return op.name;
  if (!overload.ends_with("_out")) return {};
  return op.name + "." + overload.substr(0, overload.size() - 4);
}

// Out= forms that size their outputs without a Meta kernel: seen alone, they would leave the client
// without the size. The functional form, seen whole, is asked about once.
std::set<std::string> forms_to_see_whole() {
  std::set<std::string> names;
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const c10::OperatorName& op : dispatcher.getAllOpNames()) {
    const std::string functional = functional_form(op);
    if (functional.empty()) continue;
    const auto handle = dispatcher.findSchema(op);
    if (handle && handle->hasKernelForDispatchKey(c10::DispatchKey::CPU) &&
        !handle->hasKernelForDispatchKey(c10::DispatchKey::Meta)) {
      names.insert(functional);
    }
  }
  return names;
}

std::set<std::string> operators_to_intercept() {
  std::set<std::string> names;
  const std::set<std::string> whole = forms_to_see_whole();
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const c10::OperatorName& op : dispatcher.getAllOpNames()) {
    const auto handle = dispatcher.findSchema(op);
    if (!handle || returns_view(handle->schema())) continue;
    const std::string full = toString(op);
    if (!operators::is_allowed(full)) continue;  // Left to PyTorch to decompose.
    std::string name = full.substr(full.find("::") + 2);
    const bool explicit_composite =
        handle->hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd);
    if (name.starts_with("_foreach_") || operators::is_whole_composite(name) ||
        whole_operators().contains(name) || (explicit_composite && whole.contains(full)) ||
        handle->hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutogradNonFunctional)) {
      names.insert(std::move(name));
    }
  }
  for (const char* const typed : {"set_", "resize_", "_fused_sdp_choice"}) names.erase(typed);
  return names;
}

// The same choice as on the CPU, so that the server's results are those of the CPU, bit for bit.
// NOLINTNEXTLINE(readability-function-size): PyTorch's signature.
int64_t choose_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const std::optional<at::Tensor>& mask, double dropout, bool causal,
                         std::optional<double> scale, bool grouped) {
  const int64_t choice = at::native::_fused_sdp_choice_stub(c10::kCPU, query, key, value, mask,
                                                            dropout, causal, scale, grouped);
  return choice == static_cast<int64_t>(at::SDPBackend::math)
             ? choice
             : static_cast<int64_t>(at::SDPBackend::overrideable);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&record_any>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  for (const std::string& name : operators_to_intercept()) {
    library.impl(name.c_str(),
                 torch::CppFunction::makeFromBoxedFunctor(std::make_unique<RecordOne>()));
  }
  library.impl("_fused_sdp_choice", TORCH_FN(choose_attention));
}

TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, library) {
  for (const std::string_view name : operators::kWholeComposites) {
    library.impl(std::string(name).c_str(),
                 torch::CppFunction::makeFromBoxedFunctor(std::make_unique<RecordWhole>()));
  }
}

// The copy itself reads the lazy bits of its tensors; PyTorch's fallbacks would resolve them with
// another copy, which would come here again.
TORCH_LIBRARY_IMPL(aten, Conjugate, library) {
  library.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, library) {
  library.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

// Nothing is cast where autocast is off; where it is on, operators that are not listed stay as they
// are.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFallthrough());
}

}  // namespace djinn::client

namespace at::native {
// at::scaled_dot_product_attention asks this stub, not the operator.
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &djinn::client::choose_attention)
}  // namespace at::native
