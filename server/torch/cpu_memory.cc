// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cpu_memory.h"

#include <malloc.h>

#include <cstdlib>
#include <cstring>

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

constexpr size_t kAlignment = 64;  // as LibTorch's own

}  // namespace

CpuMemory& CpuMemory::instance() {
  static CpuMemory* const memory = [] {
    auto* made = new CpuMemory;  // Tensors of other static objects may outlive any order of ends.
    c10::SetCPUAllocator(made, 100);
    return made;
  }();
  return *memory;
}

DeviceMemory CpuMemory::usage() const {
  return {.budget_bytes = budget_, .used_bytes = used_, .peak_bytes = peak_};
}

void CpuMemory::refuse(size_t bytes) const {
  const uint64_t budget = budget_;
  const uint64_t used = used_;
  C10_THROW_ERROR(OutOfMemoryError,
                  "out of memory: " + std::to_string(bytes) + " bytes asked, " +
                      std::to_string(budget > used ? budget - used : 0) + " of " +
                      std::to_string(budget) + " are free");
}

void* CpuMemory::take(size_t bytes, bool zeroed) {
  if (bytes == 0) return nullptr;
  const uint64_t budget = budget_;
  if (bytes > kStorageBytesMax || (budget != 0 && used_ + bytes > budget)) refuse(bytes);
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) refuse(bytes);
  const size_t taken = malloc_usable_size(memory);
  const uint64_t used = used_.fetch_add(taken, std::memory_order_relaxed) + taken;
  if (budget != 0 && used > budget) {
    release(memory);
    refuse(bytes);
  }
  uint64_t peak = peak_.load(std::memory_order_relaxed);
  while (used > peak && !peak_.compare_exchange_weak(peak, used, std::memory_order_relaxed)) {
  }
  if (zeroed) std::memset(memory, 0, bytes);
  return memory;
}

void CpuMemory::release(void* memory) {
  if (memory == nullptr) return;
  instance().used_.fetch_sub(malloc_usable_size(memory), std::memory_order_relaxed);
  std::free(memory);
}

c10::DataPtr CpuMemory::allocate(size_t bytes) {
  void* const memory = take(bytes, false);
  return {memory, memory, &release, c10::Device(c10::kCPU)};
}

c10::DataPtr CpuMemory::allocate_zeroed(size_t bytes) {
  void* const memory = take(bytes, true);
  return {memory, memory, &release, c10::Device(c10::kCPU)};
}

}  // namespace djinn::server
