// SPDX-License-Identifier: Apache-2.0
// The bytes of a run: uploads, fetches, resizing, and who may write what.
#include <cstring>

#include <ATen/ATen.h>

#include "operators/dtypes.h"
#include "server/torch/problem.h"
#include "server/torch/run.h"

namespace djinn::server {
namespace {

constexpr size_t kCopiedAnswerMax = 4 << 10;  // Copying so little is cheaper than guarding it.

uint64_t padded(uint64_t bytes) { return (bytes + 7) & ~uint64_t{7}; }

Answer answer_with(Bytes bytes) {
  auto owner = std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
  const Bytes view = *owner;
  return {.owner = std::move(owner), .bytes = view};
}

}  // namespace

const Geometry& Run::geometry(const graph::Operand& operand) {
  const char* problem = resolve(operand, numbers_, geometry_);
  if (problem != nullptr) throw Problem(ErrorCode::kInvalid, problem);
  return geometry_;
}

bool Run::covers(const Cell& cell, const Geometry& geometry) {
  return geometry.contiguous && geometry.offset == 0 && geometry.extent_bytes == cell.bytes;
}

void Run::materialise(Cell& cell, Fill fill) {
  cell.storage = session_.backend.allocate(cell.bytes, fill);
  track(cell);
}

void Run::make_writable(Cell& cell) {
  if (!cell.shared && cell.reader.expired()) return;
  c10::Storage copy = session_.backend.allocate(cell.bytes, Fill::kNone);
  session_.backend.copy(copy, cell.storage, cell.bytes);
  cell.replace(std::move(copy));
  track(cell);
}

const at::Tensor& Run::view(const graph::Operand& operand) {
  Cell& cell = this->cell(operand.slot);
  const Geometry& geometry = this->geometry(operand);
  const c10::ScalarType type = operators::to_torch(operand.dtype);
  if (cell.view.defined() && cell.view.scalar_type() == type &&
      cell.view.storage_offset() == geometry.offset && cell.view.sizes() == geometry.sizes &&
      cell.view.strides() == geometry.strides) {
    return cell.view;
  }
  if (!cell.storage) materialise(cell);
  if (geometry.extent_bytes > cell.bytes) {
    throw Problem(ErrorCode::kInvalid, "an operand reaches to byte " +
                                           std::to_string(geometry.extent_bytes) +
                                           " of a storage of " + std::to_string(cell.bytes));
  }
  cell.view = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(cell.storage), session_.keys,
                                                       c10::scalarTypeToTypeMeta(type));
  cell.view.unsafeGetTensorImpl()->set_sizes_and_strides(geometry.sizes, geometry.strides,
                                                         geometry.offset);
  return cell.view;
}

void Run::upload(uint32_t index) {
  const graph::Entry& entry = plan_.entries[index];
  const graph::Operand& to = plan_.operands[entry.operand];
  const SharedError error = caught("upload", [&] {
    pin(index);
    const auto length = static_cast<uint64_t>(numbers_[entry.number]);
    if (numbers_[entry.number] < 0 || length > kStorageBytesMax) {
      throw Problem(ErrorCode::kInvalid, "its length is out of bounds");
    }
    if (entry.form != graph::UploadForm::kInline) {
      const StagedUpload* staged =
          entry.upload < work_.uploads.size() ? &work_.uploads[entry.upload] : nullptr;
      if (staged == nullptr) throw Problem(ErrorCode::kNotFound, "its bytes have not arrived");
      if (staged->buffer == nullptr) throw Problem(ErrorCode::kOutOfMemory, staged->failure);
      const uint64_t arrived = staged->buffer->length();
      if (arrived != length) {
        throw Problem(ErrorCode::kInvalid, std::to_string(arrived) + " bytes arrived, " +
                                               std::to_string(length) + " were announced");
      }
      upload_into(to, length, {}, staged);
      if (tiers_ != nullptr) expect_arrived(index);
      return;
    }
    const Bytes all = std::as_bytes(std::span(work_.inline_uploads));
    const size_t at = inline_at_;
    inline_at_ = std::min(all.size(), inline_at_ + static_cast<size_t>(padded(length)));
    if (length > all.size() - at) throw Problem(ErrorCode::kInvalid, "its bytes are cut short");
    upload_into(to, length, all.subspan(at, static_cast<size_t>(length)), nullptr);
  });
  if (error != nullptr) cell(to.slot).fail(error);
}

c10::Storage Run::copy_of(Bytes bytes) {
  c10::Storage copy = session_.backend.allocate(bytes.size(), Fill::kNone);
  session_.backend.write(copy, bytes);
  return copy;
}

// Of a device that works on its own the buffer's host memory may have gone: the bytes are there.
c10::Storage Run::source_of(Bytes bytes, const StagedUpload* staged) {
  if (staged == nullptr) return copy_of(bytes);
  if (!session_.backend.works_on_its_own()) return copy_of(staged->buffer->bytes());
  return session_.backend.adopt(staged->buffer).storage;
}

void Run::replace(Cell& cell, Bytes bytes, const StagedUpload* staged) {
  if (staged == nullptr) {
    cell.replace(copy_of(bytes));
    track(cell);
    return;
  }
  Adopted adopted = session_.backend.adopt(staged->buffer);
  const bool has_it = adopted.storage || adopted.home != nullptr;
  if (adopted.home != nullptr) {
    cell.replace(std::move(adopted.home));
  } else if (adopted.storage) {
    cell.replace(std::move(adopted.storage));
  } else {
    cell.replace(copy_of(staged->buffer->bytes()));
    track(cell);
  }
  cell.shared = has_it && staged->shared;
  if (cell.shared) cell.content = staged->buffer->number();
  // Who shares it asks for its bytes until they are verified.
  if (has_it && !staged->shared) staged->buffer->drop_host();
}

void Run::upload_into(const graph::Operand& to, uint64_t length, Bytes bytes,
                      const StagedUpload* staged) {
  Slot& slot = program_.slots[to.slot];
  if (slot.state == Slot::State::kLost) return;
  Cell& cell = *slot.cell;
  const Geometry& geometry = this->geometry(to);
  if (static_cast<uint64_t>(geometry.elements) * graph::dtype_bytes(to.dtype) != length) {
    throw Problem(ErrorCode::kInvalid, "its length is not that of its destination");
  }
  if (covers(cell, geometry)) {  // An earlier error is gone with the bytes it concerned.
    replace(cell, bytes, staged);
    cell.error = nullptr;
    return;
  }
  if (cell.error != nullptr) return;
  if (!cell.storage) materialise(cell);
  make_writable(cell);
  const std::vector<int64_t> sizes = geometry.sizes.vec();
  const c10::Storage storage = source_of(bytes, staged);
  const at::Tensor& target = view(to);
  at::Tensor source = at::empty({0}, target.options());
  source.set_(storage, 0, sizes);
  target.copy_(source);
}

void Run::fetch(uint32_t index) {
  const graph::Entry& entry = plan_.entries[index];
  const graph::Operand& from = plan_.operands[entry.operand];
  Cell& cell = this->cell(from.slot);
  SharedError error = cell.error;
  if (error == nullptr) {
    std::optional<Answer> made;
    std::shared_ptr<const void> reading;
    error = caught("fetch", [&] {
      pin(index);
      made = answer_of(cell, view(from), reading);
    });
    if (error == nullptr) {
      answer(entry.answer, std::move(*made), std::move(reading));
      return;
    }
  }
  answer(entry.answer, Error(*error));
}

Answer Run::answer_of(Cell& cell, const at::Tensor& tensor, std::shared_ptr<const void>& reading) {
  const HostCopy copy = session_.backend.to_host(tensor);
  const at::Tensor& host = copy.tensor;
  const Bytes bytes(static_cast<const std::byte*>(host.const_data_ptr()), host.nbytes());
  if (copy.source != nullptr) {
    reading = copy.source;
    if (copy.source->is_alias_of(cell.storage)) cell.reader = copy.source;
  } else if (bytes.size() <= kCopiedAnswerMax || cell.home != nullptr) {
    return answer_with(bytes);  // Who reads slowly must not hold the device's memory.
  }
  auto owner = std::make_shared<const c10::Storage>(host.storage());
  if (host.is_alias_of(tensor)) cell.reader = owner;
  return {.owner = std::move(owner), .bytes = bytes};
}

void Run::resize(uint32_t index) {
  const graph::Entry& entry = plan_.entries[index];
  Slot& slot = program_.slots[entry.operand];
  if (slot.state == Slot::State::kLost || slot.cell->error != nullptr) return;
  Cell& cell = *slot.cell;
  const SharedError error = caught("resize", [&] {
    const auto bytes = static_cast<uint64_t>(numbers_[entry.number]);
    if (numbers_[entry.number] < 0 || bytes > kStorageBytesMax) {
      throw Problem(ErrorCode::kInvalid, "a storage's length is out of bounds");
    }
    pin(index);
    if (!cell.storage) {  // zeros that nobody has asked for yet
      cell.bytes = bytes;
      return;
    }
    c10::Storage resized =
        session_.backend.allocate(bytes, bytes > cell.bytes ? Fill::kZero : Fill::kNone);
    session_.backend.copy(resized, cell.storage, std::min(bytes, cell.bytes));
    cell.replace(std::move(resized));
    track(cell);
  });
  if (error != nullptr) cell.fail(error);
}

}  // namespace djinn::server
