// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cuda/cuda_buffer.h"

#include <ATen/core/CachingHostAllocator.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

#include "server/torch/cuda/device_memory.h"

namespace djinn::server::cuda {

std::span<std::byte> CudaBuffer::bytes() {
  const std::scoped_lock lock(mutex_);
  if (host_.get() == nullptr) return {};
  return {static_cast<std::byte*>(host_.mutable_get()), static_cast<size_t>(length_bytes_)};
}

void CudaBuffer::drop_host() {
  const std::scoped_lock lock(mutex_);
  host_needed_ = false;
  if (copied_) host_.clear();
}

void* CudaBuffer::on_device(const Streams& streams) {
  const std::scoped_lock lock(mutex_);
  if (!copied_) {
    copy_to_device(streams);
    copied_ = true;
    if (!host_needed_) host_.clear();
  }
  return device_.mutable_get();
}

// The block belongs to `in`: it need not wait for operators that use older memory. The compute
// stream waits for the copy, and the allocator for the compute stream before the block is reused.
void CudaBuffer::copy_to_device(const Streams& streams) {
  if (length_bytes_ == 0) return;
  c10::DataPtr block;
  {
    const c10::cuda::CUDAStreamGuard guard(streams.in);
    block = allocate_raw(length_bytes_);
    C10_CUDA_CHECK(cudaMemcpyAsync(block.mutable_get(), host_.get(), length_bytes_,
                                   cudaMemcpyHostToDevice, streams.in));
  }
  at::getHostAllocator(at::kCUDA)->record_event(host_.mutable_get(), host_.get_context(),
                                                streams.in.unwrap());
  order(streams.in, streams.compute);
  c10::cuda::CUDACachingAllocator::recordStream(block, streams.compute);
  device_ = std::move(block);
}

}  // namespace djinn::server::cuda
