// SPDX-License-Identifier: Apache-2.0
// Factories and views: what is only metadata. A view is other geometry on the same storage, so it
// is not recorded; a new tensor is recorded when it is first used.
#include <ATen/EmptyTensor.h>
#include <ATen/native/Resize.h>
#include <torch/library.h>

#include "client/torch/remote_device.h"
#include "client/torch/resize.h"
#include "client/torch/storage.h"

// PyTorch's own, for every device whose tensors have a storage; no header declares them.
namespace at::native {
Tensor view(const Tensor& self, IntArrayRef size);
Tensor as_strided_tensorimpl(const Tensor& self, IntArrayRef size, IntArrayRef stride,
                             std::optional<int64_t> offset);
Tensor _reshape_alias(const Tensor& self, IntArrayRef sizes, IntArrayRef strides);
Tensor unfold(const Tensor& self, int64_t dim, int64_t size, int64_t step);
Tensor view_as_real(const Tensor& self);
Tensor view_as_complex(const Tensor& self);
}  // namespace at::native

namespace djinn::client {

const at::Tensor& resize_remote(const at::Tensor& self, c10::IntArrayRef sizes,
                                std::optional<c10::MemoryFormat> format) {
  c10::TensorImpl* const impl = self.unsafeGetTensorImpl();
  if (self.sizes() == sizes && !format) return self;
  const size_t bytes = at::detail::computeStorageNbytesContiguous(
      sizes, self.dtype().itemsize(), static_cast<size_t>(self.storage_offset()));
  // First, for it may throw.
  if (c10::multiply_integers(sizes) > 0 && bytes > self.storage().nbytes()) {
    resize_storage(self.storage(), bytes);
  }
  impl->set_sizes_contiguous(sizes);
  if (format && *format != c10::MemoryFormat::Preserve) impl->empty_tensor_restride(*format);
  return self;
}

namespace {

using at::Tensor;
using c10::IntArrayRef;
using std::optional;

RemoteDevice& target(optional<c10::Device> device) {
  return RemoteDevice::get(device && device->has_index() ? device->index()
                                                         : RemoteDevice::current_index());
}

void check_layout(optional<c10::Layout> layout) {
  TORCH_CHECK(!layout || *layout == c10::kStrided, "djinn: only strided tensors, not ", *layout,
              " ones, exist on the device djinn");
}

Tensor empty_strided(IntArrayRef sizes, IntArrayRef strides, optional<c10::ScalarType> type,
                     optional<c10::Layout> layout, optional<c10::Device> device,
                     optional<bool> /*pin*/) {
  check_layout(layout);
  return make_remote(target(device), sizes, strides, c10::dtype_or_default(type));
}

Tensor empty(IntArrayRef sizes, optional<c10::ScalarType> type, optional<c10::Layout> layout,
             optional<c10::Device> device, optional<bool> /*pin*/,
             optional<c10::MemoryFormat> format) {
  check_layout(layout);
  for (const int64_t size : sizes) {
    TORCH_CHECK(size >= 0, "Trying to create tensor with negative dimension ", size, ": ", sizes);
  }
  Tensor tensor = make_remote(target(device), sizes, c10::contiguous_strides(sizes),
                              c10::dtype_or_default(type));
  if (format && *format != c10::MemoryFormat::Contiguous &&
      *format != c10::MemoryFormat::Preserve) {
    tensor.unsafeGetTensorImpl()->empty_tensor_restride(*format);
  }
  return tensor;
}

// NOLINTNEXTLINE(readability-function-size): PyTorch's signature.
Tensor new_empty_strided(const Tensor& self, IntArrayRef sizes, IntArrayRef strides,
                         optional<c10::ScalarType> type, optional<c10::Layout> layout,
                         optional<c10::Device> device, optional<bool> pin) {
  if (device && device->type() != c10::kPrivateUse1) {
    return at::empty_strided(sizes, strides, type.value_or(self.scalar_type()), layout, device,
                             pin);
  }
  return empty_strided(sizes, strides, type.value_or(self.scalar_type()), layout,
                       device.value_or(self.device()), pin);
}

// As on the CPU: a storage that is too small grows.
Tensor& set_storage(Tensor& self, c10::Storage storage, int64_t offset, IntArrayRef sizes,
                    IntArrayRef strides) {
  at::native::checkSetStorage(self, std::move(storage), offset, sizes, strides);
  c10::TensorImpl* const impl = self.unsafeGetTensorImpl();
  impl->set_storage_offset(offset);
  at::native::resize_impl_cpu_(
      impl, sizes, strides.data() != nullptr ? at::OptionalIntArrayRef(strides) : std::nullopt,
      /*resize_storage=*/false);
  const size_t bytes = at::detail::computeStorageNbytes(
      self.sizes(), self.strides(), self.dtype().itemsize(), static_cast<size_t>(offset));
  if (self.numel() > 0 && bytes > self.storage().nbytes()) resize_storage(self.storage(), bytes);
  return self;
}

Tensor& set_whole_storage(Tensor& self, c10::Storage storage) {
  const auto length = static_cast<int64_t>(storage.nbytes() / self.dtype().itemsize());
  return set_storage(self, std::move(storage), 0, {length}, {});
}

Tensor& set_tensor(Tensor& self, const Tensor& source) {
  TORCH_CHECK(is_remote(source), "djinn: set_ with a tensor of another device, ", source.device());
  return set_storage(self, source.storage(), source.storage_offset(), source.sizes(),
                     source.strides());
}

Tensor& set_nothing(Tensor& self) {
  Tensor nothing = make_remote(RemoteDevice::of(self), {0}, {1}, self.scalar_type());
  return set_storage(self, nothing.storage(), 0, {0}, {});
}

// Lets Module::to and tensor.data = other work: both are dense and strided. Also from and to the
// device meta, where LibTorch refuses it: how a module loses its bytes, and gets some of the
// device.
bool compatible_shallow_copy(const Tensor& self, const Tensor& from) {
  return self.layout() == c10::kStrided && from.layout() == c10::kStrided;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", TORCH_FN(empty));
  library.impl("empty_strided", TORCH_FN(empty_strided));
  library.impl("new_empty_strided", TORCH_FN(new_empty_strided));
  library.impl("resize_", TORCH_FN(resize_remote));
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  library.impl("unfold", TORCH_FN(at::native::unfold));
  library.impl("view_as_real", TORCH_FN(at::native::view_as_real));
  library.impl("view_as_complex", TORCH_FN(at::native::view_as_complex));
  library.impl("set_.source_Storage_storage_offset", TORCH_FN(set_storage));
  library.impl("set_.source_Storage", TORCH_FN(set_whole_storage));
  library.impl("set_.source_Tensor", TORCH_FN(set_tensor));
  library.impl("set_", TORCH_FN(set_nothing));
  library.impl("_has_compatible_shallow_copy_type", TORCH_FN(compatible_shallow_copy));
}
TORCH_LIBRARY_IMPL(aten, Meta, library) {
  library.impl("_has_compatible_shallow_copy_type", TORCH_FN(compatible_shallow_copy));
}
TORCH_LIBRARY_IMPL(aten, AutogradMeta, library) {
  library.impl("_has_compatible_shallow_copy_type", TORCH_FN(compatible_shallow_copy));
}
TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, library) {
  library.impl("_has_compatible_shallow_copy_type", TORCH_FN(compatible_shallow_copy));
}

}  // namespace djinn::client
