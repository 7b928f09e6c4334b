// SPDX-License-Identifier: Apache-2.0
#include "server/torch/packed_matrices.h"

#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <c10/util/Exception.h>

namespace djinn::server {
namespace {

constexpr uint64_t kUsesBeforePacking = 3;  // Packing takes as long as two or three products.
constexpr size_t kEntriesMax = 4096;        // Beyond that nothing new is counted.
constexpr uint64_t kPartOfMemory = 4;       // All packed ones take a quarter at most.

uint64_t bytes_max_of(const Backend& backend) {
  const uint64_t budget = backend.memory().budget_bytes;
  if (budget > 0) return budget / kPartOfMemory;
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) / kPartOfMemory;
}

using Operator = std::optional<c10::OperatorHandle>;  // Nothing: this LibTorch lacks it.
const Operator& reorder() {
  static const Operator found =
      c10::Dispatcher::singleton().findSchema({"mkldnn::_reorder_linear_weight", ""});
  return found;
}
const Operator& linear() {
  static const Operator found =
      c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  return found;
}

at::Tensor call(const c10::OperatorHandle& op, torch::jit::Stack stack) {
  op.callBoxed(stack);
  return std::move(stack.front()).toTensor();
}

}  // namespace

PackedMatrices::PackedMatrices(const Backend& backend)
    : backend_(backend), bytes_max_(bytes_max_of(backend)) {}

at::Tensor PackedMatrices::multiply(uint64_t content, const at::Tensor& matrix,
                                    const at::Tensor& rows, const at::Tensor& bias) {
  if (!reorder() || !linear() || !backend_.device().is_cpu()) return {};
  const Key key{.content = content,
                .offset = matrix.storage_offset(),
                .inner = matrix.size(0),
                .columns = matrix.size(1),
                .stride = matrix.stride(0),
                .column_stride = matrix.stride(1),
                .type = matrix.scalar_type()};
  bool pack = false;
  at::Tensor packed = find(key, matrix.nbytes(), pack);
  if (pack) {
    try {
      packed = call(*reorder(), {matrix.t().contiguous(), c10::IValue()});
    } catch (const c10::Error&) {  // Not by this processor, or there is no room.
      never_pack(key);
      return {};
    }
    keep(key, packed, matrix.nbytes());
  }
  if (!packed.defined()) return {};
  return call(*linear(), {rows, packed, bias.defined() ? c10::IValue(bias) : c10::IValue(), "none",
                          c10::List<std::optional<at::Scalar>>(), ""});
}

at::Tensor PackedMatrices::find(const Key& key, uint64_t bytes, bool& pack) {
  const DeviceMemory memory = backend_.memory();
  const MutexLock lock(mutex_);
  if (entries_.size() >= kEntriesMax && !entries_.contains(key)) return {};
  Entry& entry = entries_[key];
  if (entry.packed.defined()) {
    used_.splice(used_.end(), used_, entry.used);
    return entry.packed;
  }
  const bool fits = bytes <= bytes_max_ &&
                    (memory.budget_bytes == 0 || memory.used_bytes + bytes <= memory.budget_bytes);
  pack = ++entry.uses > kUsesBeforePacking && fits && !entry.never;
  return {};
}

void PackedMatrices::never_pack(const Key& key) {
  const MutexLock lock(mutex_);
  entries_[key].never = true;
}

void PackedMatrices::keep(const Key& key, at::Tensor packed, uint64_t bytes) {
  const MutexLock lock(mutex_);
  while (bytes_ + bytes > bytes_max_ && !used_.empty()) unpack(entries_.at(used_.front()));
  Entry& entry = entries_[key];
  entry.packed = std::move(packed);
  entry.bytes = bytes;
  entry.used = used_.insert(used_.end(), key);
  bytes_ += bytes;
}

uint64_t PackedMatrices::drop(uint64_t bytes) {
  const MutexLock lock(mutex_);
  const uint64_t before = bytes_;
  while (before - bytes_ < bytes && !used_.empty()) unpack(entries_.at(used_.front()));
  return before - bytes_;
}

void PackedMatrices::unpack(Entry& entry) {
  bytes_ -= entry.bytes;
  entry.packed = at::Tensor();
  entry.uses = 0;  // It must be worth it again.
  used_.erase(entry.used);
}

}  // namespace djinn::server
