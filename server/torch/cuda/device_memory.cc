// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cuda/device_memory.h"

#include <algorithm>

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

#include "server/torch/cuda/owners.h"

namespace djinn::server::cuda {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;
using allocator::TraceEntry;

thread_local uint64_t current_owner = Owners::kNobody;
thread_local bool overwrites = false;

// Called under the allocator's lock: no LibTorch in here.
void track(Owners& owners, const TraceEntry& entry) {
  switch (entry.action_) {
    case TraceEntry::ALLOC: {
      const size_t dirty = owners.take(entry.addr_, entry.size_, current_owner, overwrites);
      if (dirty == 0) return;
      // An error stays in the runtime until the kernel behind it is started, which throws it.
      // NOLINTNEXTLINE(performance-no-int-to-ptr): the allocator gives the address as a number.
      C10_CUDA_ERROR_HANDLED(cudaMemsetAsync(reinterpret_cast<void*>(entry.addr_), 0, dirty,
                                             static_cast<cudaStream_t>(entry.stream_)));
      return;
    }
    case TraceEntry::FREE_COMPLETED:
      owners.give_back(entry.addr_);
      return;
    case TraceEntry::SEGMENT_FREE:
    case TraceEntry::SEGMENT_UNMAP:
      owners.forget(entry.addr_, entry.size_);
      return;
    default:
      return;
  }
}

}  // namespace

void start_device_memory(c10::DeviceIndex device, uint64_t budget_bytes) {
  if (budget_bytes != 0) {
    const c10::cuda::CUDAGuard guard(device);
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    C10_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
    const double fraction = static_cast<double>(budget_bytes) / static_cast<double>(total_bytes);
    allocator::setMemoryFraction(std::min(fraction, 1.0), device);
  }
  auto* const owners =
      new Owners;  // The allocator keeps its trackers as long as the process lives.
  allocator::attachAllocatorTraceTracker([owners, device](const TraceEntry& entry) {
    if (entry.device_ == device) track(*owners, entry);
  });
}

DeviceMemory device_memory(c10::DeviceIndex device, uint64_t budget_bytes) {
  const auto stats = allocator::getDeviceStats(device);
  const auto& bytes =
      stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
  return {.budget_bytes = budget_bytes,
          .used_bytes = static_cast<uint64_t>(std::max<int64_t>(0, bytes.current)),
          .peak_bytes = static_cast<uint64_t>(std::max<int64_t>(0, bytes.peak))};
}

c10::DataPtr allocate_raw(uint64_t bytes) {
  struct Overwrites {
    Overwrites() { overwrites = true; }
    ~Overwrites() { overwrites = false; }
  } const raw;
  return allocator::get()->allocate(static_cast<size_t>(bytes));
}

WorksFor::WorksFor(SessionId session) { current_owner = session.value; }
WorksFor::~WorksFor() { current_owner = Owners::kNobody; }

}  // namespace djinn::server::cuda
