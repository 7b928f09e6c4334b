// SPDX-License-Identifier: Apache-2.0
// Copies: bytes that the app gives (uploads) and bytes that it asks for (fetches).
//
// An upload is a snapshot: when the call returns, the app may write the source again, also through
// a raw pointer. So small tensors are copied into the job's message; larger ones are taken by the
// kernel before the call returns; and only a read-only mapping of a file is borrowed and sent
// later.
#include <cstring>

#include <ATen/EmptyTensor.h>
#include <ATen/native/Resize.h>
#include <torch/library.h>

#include "client/session/hash_cache.h"
#include "client/torch/dtypes.h"
#include "client/torch/op_info.h"
#include "client/torch/recorder.h"
#include "client/torch/remote_device.h"
#include "client/torch/storage.h"
#include "serialization/base/limits.h"

namespace djinn::client {
namespace {

using at::Tensor;

std::span<std::byte> bytes_of(const Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()};
}
std::span<const std::byte> const_bytes_of(const Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

// The bytes of a dense tensor in the order they lie in memory, as a vector.
Tensor flat(const Tensor& tensor) {
  return tensor.as_strided({tensor.numel()}, {1}, tensor.storage_offset());
}

bool same_dense_layout(const Tensor& a, const Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         a.strides() == b.strides() && a.is_non_overlapping_and_dense();
}

// The tensor's elements one behind the other, without running an operator.
void pack(const Tensor& tensor, std::byte* out) {
  const auto* const from = static_cast<const std::byte*>(tensor.const_data_ptr());
  const size_t item = tensor.itemsize();
  std::vector<int64_t> index(static_cast<size_t>(tensor.dim()), 0);
  for (int64_t n = 0; n < tensor.numel(); ++n) {
    int64_t at = 0;
    for (size_t d = 0; d < index.size(); ++d)
      at += index[d] * tensor.stride(static_cast<int64_t>(d));
    std::memcpy(out + static_cast<size_t>(n) * item, from + at * static_cast<int64_t>(item), item);
    for (size_t d = index.size(); d-- > 0;) {
      if (++index[d] < tensor.size(static_cast<int64_t>(d))) break;
      index[d] = 0;
    }
  }
}

// -- uploads

void write_upload(RemoteDevice& device, graph::UploadForm form, const Tensor& to) {
  device.writer().upload(form, to.nbytes());
  EntryGuard guard(device.writer());
  device.write_operand(to);
  guard.written();
  device.entry_done();
}

void upload_inline(RemoteDevice& device, const Tensor& from, const Tensor& to) {
  const auto hold = RemoteDevice::lock();
  const auto room = device.inline_upload(from.nbytes());
  if (from.is_contiguous()) {
    std::memcpy(room.data(), from.const_data_ptr(), from.nbytes());
  } else {
    pack(from, room.data());
  }
  write_upload(device, graph::UploadForm::kInline, to);
}

void check(const Result<>& result) { TORCH_CHECK(result.has_value(), result.error().message); }

// True if the destination is a storage that nothing has used, filled from end to end.
bool fills_fresh_storage(const Tensor& to) {
  const StorageContext& context = context_of(to);
  return !context.record.known && context.record.epoch == 0 && to.storage_offset() == 0 &&
         to.is_contiguous() && to.nbytes() == to.storage().nbytes();
}

// The part of a file that the app has mapped and made a tensor of, if that is where the bytes are.
// A storage that frees its memory itself cannot be unmapped behind our back, and one that ATen
// allocated is no file.
std::optional<FileRange> mapped_file(const Tensor& from) {
  static const auto atens = c10::GetCPUAllocator()->raw_deleter();
  const auto& pointer = from.storage().data_ptr();
  const auto deleter = pointer.get_deleter();
  if (pointer.get_context() == nullptr || deleter == &c10::detail::deleteNothing ||
      deleter == atens) {
    return std::nullopt;
  }
  return find_file_range(const_bytes_of(from));
}

// Bytes of a file wait for the flush: all of them are offered in one round trip, and hashed once in
// the life of the file.
void upload_file(RemoteDevice& device, const Tensor& from, const FileRange& range,
                 const Tensor& to) {
  const auto hold = RemoteDevice::lock();
  const auto bytes = const_bytes_of(from);
  device.make_room_for_upload(bytes.size());
  const Sha256 hash = HashCache::instance().of(range, bytes, device.hashed_bytes);
  device.defer_upload({.upload = device.next_upload(),
                       .bytes = bytes,
                       .name = artifact_name(device.session().artifact_key(), hash),
                       .owner = std::make_shared<c10::Storage>(from.storage()),
                       .forget = range.shared});
  write_upload(device, graph::UploadForm::kArtifact, to);
}

void upload_artifact(RemoteDevice& device, const Tensor& from, const Tensor& to) {
  const auto hold = RemoteDevice::lock();
  const auto bytes = const_bytes_of(from);
  device.make_room_for_upload(bytes.size());
  const UploadSource sources[] = {
      {.upload = device.next_upload(),
       .bytes = bytes,
       .name = artifact_name(device.session().artifact_key(), sha256(bytes)),
       .owner = nullptr}};
  device.hashed_bytes += bytes.size();
  check(device.session().upload_artifacts(sources));
  write_upload(device, graph::UploadForm::kArtifact, to);
  device.count_staged(bytes.size());
}

void upload_stream(RemoteDevice& device, const Tensor& from, const Tensor& to) {
  const auto hold = RemoteDevice::lock();
  std::vector<std::byte> packed;
  UploadSource source;
  device.make_room_for_upload(from.nbytes());
  source.upload = device.next_upload();
  source.bytes = const_bytes_of(from);
  if (!from.is_contiguous()) {
    packed.resize(from.nbytes());
    pack(from, packed.data());
    source.bytes = packed;
  }
  check(device.session().upload(source));
  write_upload(device, graph::UploadForm::kStream, to);
  device.count_staged(source.bytes.size());
}

// The server shares uploads from this size on; 0: none.
uint64_t shared_from(RemoteDevice& device) {
  const auto hold = RemoteDevice::lock();
  return device.shares() ? device.session().artifact_bytes_min() : 0;
}

// Same type, same sizes.
void upload(const Tensor& from, const Tensor& to) {
  RemoteDevice& device = RemoteDevice::of(to);
  {
    // Before bytes are taken, which no entry would speak of.
    const auto hold = RemoteDevice::lock();
    device.check_session(context_of(to));
    (void)to_wire(to.scalar_type());
  }
  if (from.nbytes() >= kArtifactBytesMin && from.is_contiguous() && fills_fresh_storage(to)) {
    const uint64_t least = shared_from(device);
    if (least != 0 && from.nbytes() >= least) {
      if (const auto range = mapped_file(from)) return upload_file(device, from, *range, to);
      if (from.nbytes() >= kAnonymousArtifactBytesMin) return upload_artifact(device, from, to);
    }
  }
  if (from.nbytes() < kInlineUploadBytesMax) return upload_inline(device, from, to);
  upload_stream(device, from, to);
}

void copy_on_device(const Tensor& from, const Tensor& to) {
  static OpInfo& copy = op_info(c10::Dispatcher::singleton().findSchemaOrThrow("aten::copy_", ""));
  Stack stack{to, from, false};
  record(copy, stack);
}

void copy_to_device(const Tensor& from, const Tensor& to) {
  TORCH_CHECK(from.layout() == c10::kStrided, "djinn: only strided tensors can be uploaded");
  if (from.scalar_type() == to.scalar_type() && from.sizes() == to.sizes()) {
    if (!from.is_contiguous() && same_dense_layout(from, to)) return upload(flat(from), flat(to));
    return upload(from, to);
  }
  // The server converts and broadcasts: the client runs no compute.
  Tensor there = at::empty(from.sizes(), from.options().device(to.device()));
  upload(from, there);
  copy_on_device(there, to);
}

// -- fetches

void copy_to_host(const Tensor& from, const Tensor& to) {
  RemoteDevice& device = RemoteDevice::of(from);
  if (same_dense_layout(from, to)) return device.fetch(flat(from), bytes_of(flat(to)));
  const Tensor packed = from.contiguous();
  if (to.scalar_type() == from.scalar_type() && to.sizes() == from.sizes() && to.is_contiguous()) {
    return device.fetch(packed, bytes_of(to));
  }
  Tensor here = at::detail::empty_cpu(from.sizes(), from.scalar_type());
  device.fetch(packed, bytes_of(here));
  to.copy_(here);  // Conversion of fetched bytes.
}

void copy_bytes(const Tensor& from, const Tensor& to) {
  if (!is_remote(from)) {
    TORCH_CHECK(from.is_cpu(), "djinn: cannot copy from ", from.device(), " to ", to.device());
    copy_to_device(from, to);
  } else if (!is_remote(to)) {
    TORCH_CHECK(to.is_cpu(), "djinn: cannot copy from ", from.device(), " to ", to.device());
    copy_to_host(from, to);
  } else if (&RemoteDevice::of(from) == &RemoteDevice::of(to)) {
    copy_on_device(from, to);
  } else {
    copy_to_device(from.cpu(), to);  // From server to server, by way of the app.
  }
}

// The same bytes without the bits that say "read me conjugated" or "negated".
Tensor without_lazy_bits(const Tensor& tensor) {
  if (!tensor.is_conj() && !tensor.is_neg()) return tensor;
  Tensor plain = at::alias(tensor);
  plain._set_conj(false);
  plain._set_neg(false);
  return plain;
}

// What a conj() or neg() view stands for, as plain bytes of this type; made by the server.
Tensor computed(const Tensor& from, c10::ScalarType type, bool conjugate, bool negate,
                c10::Device device) {
  if (!conjugate && !negate) return from;
  Tensor there = at::empty_like(from, from.options().device(device).dtype(type));
  copy_bytes(from, there);
  if (conjugate) there.conj_physical_();
  if (negate) there.neg_();
  return there;
}

Tensor copy_from(const Tensor& lazy_from, const Tensor& lazy_to, bool /*non_blocking*/) {
  if (lazy_to.numel() == 0 || lazy_from.numel() == 0) return lazy_to;
  Tensor from = without_lazy_bits(lazy_from);
  const Tensor to = without_lazy_bits(lazy_to);
  const c10::Device device = is_remote(from) ? from.device() : to.device();
  const bool conjugate = lazy_from.is_conj() != lazy_to.is_conj();
  const bool negate = lazy_from.is_neg() != lazy_to.is_neg();
  // Each in the type of the view that asks for it: as an integer, 0 is not -0.
  from = computed(from, from.scalar_type(), conjugate && lazy_from.is_conj(),
                  negate && lazy_from.is_neg(), device);
  from = computed(from, to.scalar_type(), conjugate && lazy_to.is_conj(),
                  negate && lazy_to.is_neg(), device);
  copy_bytes(from, to);
  return lazy_to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar item(const Tensor& tensor) {
  TORCH_CHECK(tensor.numel() == 1, "a Tensor with ", tensor.numel(),
              " elements cannot be converted to Scalar");
  Tensor here = at::detail::empty_cpu({}, tensor.scalar_type());
  RemoteDevice::of(tensor).fetch(tensor.as_strided({}, {}, tensor.storage_offset()),
                                 bytes_of(here));
  return here.item();
}

bool equal(const Tensor& self, const Tensor& other) {
  if (self.sizes() != other.sizes()) return false;
  if (self.is_alias_of(other) && self.strides() == other.strides() &&
      self.storage_offset() == other.storage_offset() &&
      self.scalar_type() == other.scalar_type() && !c10::isFloatingType(self.scalar_type()) &&
      !c10::isComplexType(self.scalar_type())) {
    return true;  // The same bytes, and none of them NaN.
  }
  static OpInfo& op = op_info(c10::Dispatcher::singleton().findSchemaOrThrow("aten::equal", ""));
  Stack stack{self, other};
  record(op, stack);
  return stack.back().toBool();
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_copy_from", TORCH_FN(copy_from));
  library.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
  library.impl("_local_scalar_dense", TORCH_FN(item));
  library.impl("equal", TORCH_FN(equal));
}

}  // namespace djinn::client
