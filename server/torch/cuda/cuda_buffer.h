// SPDX-License-Identifier: Apache-2.0
// CUDA buffer: an upload's bytes, first in pinned host memory that the network writes into, then on
// the device, where all who use them share one copy.
//
// The device's copy is made when the first job wants it. The host's goes when nobody will look at
// it any more; the allocator of pinned memory keeps it from the next upload until the copy is made.
// Threading: `bytes` belongs to whoever fills them until they are handed over; the rest: any
// thread.
#pragma once

#include <mutex>
#include <span>

#include <c10/core/Storage.h>

#include "server/executor.h"
#include "server/torch/cuda/streams.h"

namespace djinn::server::cuda {

class CudaBuffer final : public Buffer {
 public:
  CudaBuffer(c10::DataPtr pinned, uint64_t length_bytes)
      : host_(std::move(pinned)), length_bytes_(length_bytes) {}
  std::span<std::byte> bytes() override;
  uint64_t length() override { return length_bytes_; }
  void drop_host() override;

  // The bytes on the device, for work on `streams.compute`. Inside Backend::enter. Throws
  // c10::OutOfMemoryError.
  void* on_device(const Streams& streams);

 private:
  void copy_to_device(const Streams& streams);

  std::mutex mutex_;
  c10::DataPtr host_;
  c10::DataPtr device_;
  const uint64_t length_bytes_;
  bool copied_ = false;
  bool host_needed_ = true;
};

}  // namespace djinn::server::cuda
