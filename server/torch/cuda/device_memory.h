// SPDX-License-Identifier: Apache-2.0
// Device memory: LibTorch's caching allocator with a budget, and zeroed where bytes change hands.
//
// Why LibTorch's and none of our own: operators allocate through it, it knows which stream may have
// a block when, and it gives back what it caches before it says that memory is short. The budget is
// its memory fraction, so it also holds for operators' scratch; what the driver and its libraries
// take for themselves (a few hundred megabytes) is not in it.
// Why a tracker: the allocator tells of each block under its lock, and a memset on the block's
// stream comes before any kernel that its new owner starts there.
// Threading: any thread.
#pragma once

#include <cstdint>

#include <c10/core/Allocator.h>
#include <c10/core/Device.h>

#include "server/executor.h"

namespace djinn::server::cuda {

// Once per process and device, when CUDA is initialised.
void start_device_memory(c10::DeviceIndex device, uint64_t budget_bytes);
[[nodiscard]] DeviceMemory device_memory(c10::DeviceIndex device, uint64_t budget_bytes);

// For bytes that the caller overwrites, all of them, before anyone sees them; on the current
// stream.
[[nodiscard]] c10::DataPtr allocate_raw(uint64_t bytes);

// The calling thread works for this session while this lives.
class WorksFor {
 public:
  explicit WorksFor(SessionId session);
  ~WorksFor();
  WorksFor(const WorksFor&) = delete;
  WorksFor& operator=(const WorksFor&) = delete;
};

}  // namespace djinn::server::cuda
