// SPDX-License-Identifier: Apache-2.0
// Storage: a PyTorch storage whose bytes are on the server.
//
// The storage's data pointer is an address in a reserved range that nobody may touch: unique, with
// room for all offsets, and a clean SIGSEGV for whoever reads it on the host. Behind it, as the
// DataPtr's context, lies the record by which recorder and server know the storage.
// Ownership: the storage owns its context; it is dropped in program order (`release`).
// Threading: contexts are touched under the recorder's lock.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "serialization/graph/plan_writer.h"

namespace djinn::client {

class RemoteDevice;

struct StorageContext {
  graph::StorageRecord record;
  RemoteDevice* device = nullptr;
  uint32_t generation = 0;  // The device's session that knows it.
};

[[nodiscard]] inline bool is_remote(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == c10::kPrivateUse1;
}

// The context of a remote tensor's storage. Throws c10::Error if it has none.
[[nodiscard]] StorageContext& context_of(const at::Tensor& tensor);

// A new tensor on the device; nothing is recorded until it is used. The storage has exactly the
// bytes the geometry spans, or `storage_bytes` if that is not 0.
[[nodiscard]] at::Tensor make_remote(RemoteDevice& device, c10::IntArrayRef sizes,
                                     c10::IntArrayRef strides, c10::ScalarType type,
                                     size_t storage_bytes = 0);

// Changes a storage's length: recorded if the server knows it.
void resize_storage(const c10::Storage& storage, size_t bytes);

// A storage whose length the server told: nothing is recorded.
void grow_addresses(const c10::Storage& storage, size_t bytes);

// The allocator of the device type.
[[nodiscard]] c10::DeviceAllocator& remote_allocator();

}  // namespace djinn::client
