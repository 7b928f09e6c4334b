// SPDX-License-Identifier: Apache-2.0
#include "server/torch/operator_rules.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <ATen/core/enum_tag.h>

#include "operators/census.h"
#include "operators/whole_composites.h"
#include "server/torch/operator_table.h"
#include "server/torch/special_kernels.h"

namespace djinn::server {
namespace {

using c10::DispatchKey;
using std::string_view;

struct Rule {
  string_view part;  // of the name behind "aten::", overload included
  const char* reason;
};

// The name contains the part.
constexpr Rule kContains[] = {
    {"sparse", "sparse tensors do not travel"},
    {"coalesce", "sparse tensors do not travel"},
    {"_csr", "sparse tensors do not travel"},
    {"_coo", "sparse tensors do not travel"},
    {"indices_copy", "sparse tensors do not travel"},
    {"values_copy", "sparse tensors do not travel"},
    {"sspaddmm", "sparse tensors do not travel"},
    {"spdiags", "sparse tensors do not travel"},
    {"spsolve", "sparse tensors do not travel"},
    {"to_dense", "sparse tensors do not travel"},
    {"_cslt", "sparse tensors do not travel"},
    {"quantize", "quantized tensors do not travel"},
    {"qparams", "quantized tensors do not travel"},
    {"int_repr", "quantized tensors do not travel"},
    {"_dyn_quant", "quantized tensors do not travel"},
    {"fbgemm", "quantized tensors do not travel"},
    {"pack_mm", "its packed weights have a layout of their own"},
    {"int4pack", "its packed weights have a layout of their own"},
    {"nested", "nested tensors do not travel"},
    {"jagged", "nested tensors do not travel"},
    {"padded_tensor", "nested tensors do not travel"},
    {"mkldnn", "opaque layouts do not travel"},
    {"mkl_", "chosen by LibTorch itself"},
    {"nnpack", "chosen by LibTorch itself"},
    {"cudnn", "chosen by LibTorch itself"},
    {"miopen", "chosen by LibTorch itself"},
    {"_mps", "another device's"},
    {"cuda", "another device's"},
    {"cufft", "another device's"},
    {"vulkan", "another device's"},
    {"metal", "another device's"},
    {"triton", "another device's"},
    {"slow_conv", "reached through convolution"},
    {"_ctc_loss.Tensor", "lengths are numbers"},
    {"_ctc_loss_backward.Tensor", "lengths are numbers"},
    {"from_file", "reads files"},
    {"record_stream", "takes a handle from outside"},
    {"pin_memory", "takes a handle from outside"},
    {"empty", "shows uninitialised memory"},
    {"resize", "resizing is an entry of the plan"},
    {"_assert", "acts on the process"},
    {"_print", "acts on the process"},
    {"_async_error", "acts on the process"},
    {"_test_", "a test of LibTorch"},
    {"_foobar", "a test of LibTorch"},
    {"overrideable", "a hook of LibTorch for devices"},
    {"_debug", "a test of LibTorch"},
    {"sym_", "symbolic"},
    {"dimname", "named tensors do not travel"},
    {"_names", "named tensors do not travel"},
    {".names", "named tensors do not travel"},
    {"rename", "named tensors do not travel"},
};

// The name without its overload is the part.
constexpr Rule kIs[] = {
    {"_copy_from", "a hook of LibTorch for devices"},
    {"_copy_from_and_resize", "a hook of LibTorch for devices"},
    {"_chunk_cat", "the client decomposes it"},
    {"_compute_linear_combination", "a part of another operator"},
    {"_reshape_alias_copy", "the client decomposes it"},
    {"_transform_bias_rescale_qkv", "a part of another operator"},
    {"_foreach_copy", "the client decomposes it"},
    {"segment_reduce", "its lengths are addresses"},
    {"_segment_reduce_backward", "its lengths are addresses"},
    {"_fused_adagrad", "the client decomposes it"},
    {"_fused_adam", "the client decomposes it"},
    {"_fused_adamw", "the client decomposes it"},
    {"_fused_sgd", "the client decomposes it"},
    {"random", "the client decomposes it"},
    {"_lazy_clone", "shares bytes behind our back"},
    {"shallow_copy_data_", "shares bytes behind our back"},
    {"_make_dep_token", "a hook of LibTorch for tracing"},
    {"_make_dual_copy", "forward-mode differentiation stays with the client"},
    {"_fw_primal_copy", "forward-mode differentiation stays with the client"},
    {"lift", "a hook of LibTorch for tracing"},
    {"lift_fresh", "a hook of LibTorch for tracing"},
    {"set", "storages are bound by the plan"},
    {"set_", "storages are bound by the plan"},
    {"_scaled_dot_product_flash_attention_for_cpu", "reached through the fused attention"},
    {"_scaled_dot_product_flash_attention_for_cpu_backward", "reached through the fused attention"},
    {"_efficientzerotensor", "its result has no bytes"},
    {"_new_zeros_with_same_feature_meta", "forward-mode differentiation stays with the client"},
};

bool has_kernel(const c10::OperatorHandle& op, DispatchKey key) {
  return op.hasKernelForDispatchKey(key);
}

bool is_out_form(const c10::FunctionSchema& schema) {
  return std::ranges::any_of(schema.arguments(), &c10::Argument::is_out);
}

bool only_numbers(const OperatorInfo& info) {
  return !info.returns.empty() && std::ranges::all_of(info.returns, [](const ReturnInfo& returned) {
    return returned.type == ReturnType::kNumber;
  });
}

// Recorded as deferred operators; the client waits for the value.
bool is_question(string_view name) {
  return name == "aten::equal" || name == "aten::_local_scalar_dense";
}

std::string refused_by_name(string_view name) {
  const string_view bare = name.substr(0, name.find('.'));
  for (const Rule& rule : kContains) {
    if (name.find(rule.part) != string_view::npos) return rule.reason;
  }
  for (const Rule& rule : kIs) {
    if (bare == rule.part) return rule.reason;
  }
  return "";
}

std::string refused_by_kernel(const c10::OperatorHandle& op) {
  if (operators::is_whole_composite(op.schema().name().substr(6)) &&
      op.schema().overload_name().empty()) {
    return "";
  }
  // The client records these whole, also where LibTorch has a decomposition for autograd.
  if (has_kernel(op, DispatchKey::CompositeExplicitAutogradNonFunctional)) return "";
  if (has_kernel(op, DispatchKey::CompositeImplicitAutograd)) return "the client decomposes it";
  if (has_kernel(op, DispatchKey::CPU)) return "";
  if (!has_kernel(op, DispatchKey::CompositeExplicitAutograd)) return "no kernel on the CPU";
  // LibTorch writes these from the functional form; so does the client, before we hear of it.
  return is_out_form(op.schema()) ? "the client decomposes it" : "";
}

}  // namespace

std::string refusal(const c10::OperatorHandle& op) {
  const std::string name = operators::operator_name(op);
  constexpr string_view kAten = "aten::";
  if (!name.starts_with(kAten)) return "another namespace";
  if (op.hasTag(at::Tag::inplace_view)) return "views are made by the client";
  const auto info = describe_operator(op);
  if (!info) return info.error().message.substr(name.size() + 2);
  if (only_numbers(**info) && !is_question(name)) return "answers about a tensor the client knows";
  if (cpu_kernel_of(name) != nullptr) return "";
  std::string reason = refused_by_name(string_view(name).substr(kAten.size()));
  return reason.empty() ? refused_by_kernel(op) : reason;
}

}  // namespace djinn::server
