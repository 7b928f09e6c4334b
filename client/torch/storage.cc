// SPDX-License-Identifier: Apache-2.0
#include "client/torch/storage.h"

#include <sys/mman.h>

#include <atomic>

#include <ATen/EmptyTensor.h>
#include <c10/core/TensorImpl.h>

#include "client/torch/remote_device.h"

namespace djinn::client {
namespace {

constexpr size_t kAlignment = 64;

struct Arena {
  char* begin = nullptr;
  size_t bytes = 0;
};

// As many addresses as the process may have: 16 TiB, less under `ulimit -v` or a tool that checks
// memory.
Arena reserve_arena() {
  constexpr size_t kLargest = size_t{1} << 44;
  constexpr size_t kLeast = size_t{1} << 34;
  for (size_t bytes = kLargest; bytes >= kLeast; bytes /= 4) {
    void* const mapped =
        mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped != MAP_FAILED) return {.begin = static_cast<char*>(mapped), .bytes = bytes};
  }
  TORCH_CHECK(false, "djinn: this process may not reserve ", kLeast >> 30,
              " GiB of addresses for remote tensors; raise its limit (ulimit -v)");
}

// Hands out address ranges, never memory. At the arena's end it starts again: by then the first are
// dead, and a double would only make PyTorch's overlap check more careful.
void* reserve_addresses(size_t bytes) {
  static const Arena arena = reserve_arena();
  static std::atomic<size_t> next{0};
  const size_t length = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  TORCH_CHECK(length <= arena.bytes / 2, "djinn: a storage of ", bytes, " bytes is too large");
  size_t at = next.fetch_add(length, std::memory_order_relaxed) % arena.bytes;
  if (at + length > arena.bytes)
    at = next.fetch_add(length, std::memory_order_relaxed) % (arena.bytes / 2);
  return arena.begin + at;
}

void release(void* context) { RemoteDevice::forget(static_cast<StorageContext*>(context)); }

c10::DataPtr allocate_on(RemoteDevice& device, size_t bytes) {
  return {reserve_addresses(bytes), device.new_context(bytes), &release, device.device()};
}

class RemoteAllocator final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    return allocate_on(RemoteDevice::current(), bytes);
  }
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* /*to*/, const void* /*from*/, size_t /*bytes*/) const override {
    TORCH_CHECK(false, "djinn: a remote tensor's bytes cannot be copied on the host");
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t /*pool*/) override {}
  void recordStream(const c10::DataPtr& /*pointer*/, c10::Stream /*stream*/) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex /*device*/) override {
    return {};
  }
  void resetAccumulatedStats(c10::DeviceIndex /*device*/) override {}
  void resetPeakStats(c10::DeviceIndex /*device*/) override {}
};

}  // namespace

c10::DeviceAllocator& remote_allocator() {
  static auto* const allocator = new RemoteAllocator;  // Outlives every static tensor.
  return *allocator;
}

StorageContext& context_of(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.has_storage(), "djinn: a tensor without storage cannot be used on the device");
  auto* const context = static_cast<StorageContext*>(tensor.storage().data_ptr().get_context());
  TORCH_CHECK(context != nullptr, "djinn: a tensor on the device djinn was made from host memory");
  return *context;
}

at::Tensor make_remote(RemoteDevice& device, c10::IntArrayRef sizes, c10::IntArrayRef strides,
                       c10::ScalarType type, size_t storage_bytes) {
  const auto meta = c10::scalarTypeToTypeMeta(type);
  const size_t bytes = storage_bytes != 0
                           ? storage_bytes
                           : at::detail::computeStorageNbytes(sizes, strides, meta.itemsize());
  auto storage = c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), bytes, allocate_on(device, bytes), &remote_allocator(),
      /*resizable=*/true);
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(std::move(storage)), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), meta);
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return tensor;
}

void resize_storage(const c10::Storage& storage, size_t bytes) {
  c10::StorageImpl* const impl = storage.unsafeGetStorageImpl();
  if (bytes == impl->nbytes()) return;
  auto* const context = static_cast<StorageContext*>(impl->data_ptr().get_context());
  TORCH_CHECK(context != nullptr, "djinn: a storage without a record cannot be resized");
  context->device->record_resize(*context, bytes);
  grow_addresses(storage, bytes);
}

void grow_addresses(const c10::Storage& storage, size_t bytes) {
  c10::StorageImpl* const impl = storage.unsafeGetStorageImpl();
  auto* const context = static_cast<StorageContext*>(impl->data_ptr().get_context());
  // Same context, other addresses: offsets up to the new length must be in range.
  c10::DataPtr moved(reserve_addresses(bytes), context, &release, context->device->device());
  c10::DataPtr old = impl->set_data_ptr(std::move(moved));
  (void)old.release_context();
  impl->set_nbytes(bytes);
}

}  // namespace djinn::client
