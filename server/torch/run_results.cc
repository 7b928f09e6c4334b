// SPDX-License-Identifier: Apache-2.0
// The results of an operator: its storages become those the client named before they existed.
#include <algorithm>

#include <ATen/ATen.h>

#include "operators/dtypes.h"
#include "serialization/graph/result_meta.h"
#include "server/torch/problem.h"
#include "server/torch/run.h"

namespace djinn::server {
namespace {

// Strides of dimensions with one element say nothing, and those of an empty tensor neither.
bool same_layout(const at::Tensor& made, const Geometry& predicted) {
  if (made.storage_offset() != predicted.offset) return false;
  if (predicted.elements == 0) return true;
  const auto strides = made.strides();
  for (size_t d = 0; d < strides.size(); ++d) {
    if (predicted.sizes[d] != 1 && strides[d] != predicted.strides[d]) return false;
  }
  return true;
}

// Nobody else has these bytes: not an argument, not another result, not the library.
bool alone(const at::Tensor& made) {
  return made.use_count() == 1 && made.storage().use_count() == 1;
}

std::string text(c10::IntArrayRef sizes) {
  std::ostringstream out;
  out << sizes;
  return out.str();
}

// The tensor as the wire can describe it, its bits materialised.
at::Tensor plain(at::Tensor made, c10::Device device) {
  if (made.layout() != c10::kStrided || made.device() != device) {
    throw Problem(ErrorCode::kUnsupported,
                  "it made a tensor that is not dense or not on the device");
  }
  if (made.is_conj() || made.is_neg()) made = made.resolve_conj().resolve_neg().clone();
  return made;
}

graph::TensorMeta meta_of(const at::Tensor& tensor) {
  const auto dtype = operators::from_torch(tensor.scalar_type());
  if (!dtype) throw Problem(ErrorCode::kUnsupported, "it made a tensor of a type no plan can hold");
  return {.storage_bytes = tensor.storage().nbytes(),
          .dtype = *dtype,
          .sizes = tensor.sizes().vec(),
          .strides = tensor.strides().vec(),
          .offset = tensor.storage_offset()};
}

// A deferred result keeps the layout the operator gave it (nonzero's is column-major) if nobody
// else has its bytes.
at::Tensor own(at::Tensor made) {
  if (alone(made) && made.is_non_overlapping_and_dense() && made.storage_offset() == 0) return made;
  return made.is_non_overlapping_and_dense() ? made.clone(at::MemoryFormat::Preserve)
                                             : made.clone(at::MemoryFormat::Contiguous);
}

}  // namespace

void Run::take_results(const OpStep& step, const graph::Entry& entry) {
  for (uint32_t i = 0; i < step.op->returns.size(); ++i) {
    take(plan_.results[entry.first_result + i], stack_[i]);
  }
}

void Run::take(const graph::ResultSlot& result, c10::IValue& value) {
  switch (result.kind) {
    case graph::ResultKind::kNotNew:
    case graph::ResultKind::kUndefined:
    case graph::ResultKind::kDeferred:
      return;
    case graph::ResultKind::kTensor:
      take_tensor(plan_.operands[result.first], std::move(value).toTensor());
      return;
    case graph::ResultKind::kList:
      break;
  }
  std::vector<at::Tensor> made = value.toTensorVector();
  value = c10::IValue();  // Its list would count as another user of the bytes.
  if (made.size() != result.count) {
    throw Problem(ErrorCode::kFailed, "made " + std::to_string(made.size()) + " tensors, " +
                                          std::to_string(result.count) + " were predicted");
  }
  for (uint32_t i = 0; i < result.count; ++i) {
    const graph::ResultSlot& item = plan_.results[result.first + i];
    if (item.kind == graph::ResultKind::kTensor) {
      take_tensor(plan_.operands[item.first], std::move(made[i]));
    }
  }
}

void Run::take_tensor(const graph::Operand& predicted, at::Tensor made) {
  Slot& slot = program_.slots[predicted.slot];
  if (slot.state == Slot::State::kLost) return;
  const Geometry& geometry = this->geometry(predicted);
  if (!made.defined()) throw Problem(ErrorCode::kFailed, "made no tensor where one was predicted");
  made = plain(std::move(made), session_.backend.device());
  const c10::ScalarType type = operators::to_torch(predicted.dtype);
  if (made.sizes() != geometry.sizes || made.scalar_type() != type) {
    throw Problem(ErrorCode::kFailed, "made " + text(made.sizes()) + " " +
                                          toString(made.scalar_type()) + ", predicted was " +
                                          text(geometry.sizes) + " " + toString(type));
  }
  Cell& to = *slot.cell;
  const bool fresh = slot.state == Slot::State::kOurs && !to.storage && to.error == nullptr;
  if (fresh && same_layout(made, geometry) && made.storage().nbytes() == to.bytes && alone(made)) {
    // Not resizable: growing would show bytes that nobody has written.
    made.storage().unsafeGetStorageImpl()->set_resizable(false);
    to.storage = made.storage();
    to.view = std::move(made);
    track(to);
    return;
  }
  if (to.error != nullptr) return;
  if (fresh) {
    ++session_.relayouts;
    materialise(to, covers(to, geometry) ? Fill::kNone : Fill::kZero);
  } else {
    make_writable(to);
  }
  view(predicted).copy_(made);
}

void Run::fail_result(const graph::ResultSlot& result, const SharedError& error) {
  uint32_t slot = 0;
  switch (result.kind) {
    case graph::ResultKind::kNotNew:
    case graph::ResultKind::kUndefined:
      return;
    case graph::ResultKind::kList:
      for (uint32_t i = 0; i < result.count; ++i) {
        fail_result(plan_.results[result.first + i], error);
      }
      return;
    case graph::ResultKind::kTensor:
      slot = plan_.operands[result.first].slot;
      break;
    case graph::ResultKind::kDeferred:
      slot = result.first;
      break;
  }
  Cell& to = cell(slot);
  if (to.error == nullptr) to.fail(error);
}

graph::TensorMeta Run::take_deferred(uint32_t slot_index, at::Tensor made) {
  Slot& slot = program_.slots[slot_index];
  made = own(plain(std::move(made), session_.backend.device()));
  made.storage().unsafeGetStorageImpl()->set_resizable(false);
  graph::TensorMeta meta = meta_of(made);
  if (slot.state != Slot::State::kLost) {
    slot.cell->replace(made.storage());
    track(*slot.cell);
  }
  return meta;
}

graph::ResultMeta Run::defer(const graph::ResultSlot& result, c10::IValue& value) {
  if (result.kind == graph::ResultKind::kList) {
    std::vector<at::Tensor> made = value.toTensorVector();
    value = c10::IValue();
    if (made.size() != result.count) {
      throw Problem(ErrorCode::kFailed, "made " + std::to_string(made.size()) + " tensors");
    }
    std::vector<graph::TensorMeta> metas;
    for (uint32_t i = 0; i < result.count; ++i) {
      const graph::ResultSlot& item = plan_.results[result.first + i];
      if (item.kind != graph::ResultKind::kDeferred) continue;
      metas.push_back(take_deferred(item.first, std::move(made[i])));
    }
    return metas;
  }
  if (result.kind == graph::ResultKind::kDeferred) {
    at::Tensor made = std::move(value).toTensor();
    if (made.defined()) return take_deferred(result.first, std::move(made));
    cell(result.first)
        .fail(std::make_shared<const Error>(
            Error{ErrorCode::kNotFound, "the operator made no tensor here"}));
    return graph::UndefinedTensor{};
  }
  if (result.kind == graph::ResultKind::kTensor) take(result, value);
  if (result.kind == graph::ResultKind::kUndefined) return graph::UndefinedTensor{};
  if (value.isInt()) return value.toInt();
  if (value.isDouble()) return value.toDouble();
  if (value.isBool()) return value.toBool();
  return std::monostate{};
}

void Run::answer_deferred(const OpStep& step, const graph::Entry& entry) {
  std::vector<graph::ResultMeta> metas;
  for (uint32_t i = 0; i < step.op->returns.size(); ++i) {
    metas.push_back(defer(plan_.results[entry.first_result + i], stack_[i]));
  }
  auto bytes = std::make_shared<const graph::ByteString>(graph::encode_results(metas));
  const Bytes view = std::as_bytes(std::span(*bytes));
  answer(entry.answer, Answer{.owner = std::move(bytes), .bytes = view});
}

}  // namespace djinn::server
