// SPDX-License-Identifier: Apache-2.0
// CPU memory: every byte that ATen allocates in this process, in one arena with one budget.
//
// Why not malloc: aligned blocks cost it 60 ns and touching fresh pages runs at 2 GB/s, so a step
// that repeats pays more for its memory than for small operators. The arena is one reserved range
// of huge pages, and what is free stays mapped for the next who asks. With a budget the range is no
// longer than that, so neither is what the process has resident for it. Who sees what: free parts
// remember the session that wrote them, and are zeroed before another one gets them - kernels leave
// gaps in their results, so "the operator will overwrite it" is not enough. Why process-wide:
// LibTorch asks one allocator per kind of device. Kernels' own scratch (oneDNN, MKL) does not pass
// through here. Ownership: the allocator lives as long as the process. Threading: any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include <c10/core/Allocator.h>

#include "serialization/base/mutex.h"
#include "server/executor.h"
#include "server/memory/arena.h"

namespace djinn::server {

class CpuMemory final : public c10::Allocator {
 public:
  // The allocator of the process; at its first call it takes LibTorch's place.
  static CpuMemory& instance();

  // 0: no limit. What is in use stays.
  void set_budget(uint64_t bytes);
  [[nodiscard]] DeviceMemory usage() const;
  // Gives the pages of what is free back to the system.
  void trim();
  // Whose work the calling thread does from here on; 0: nobody's.
  static void set_owner(uint64_t session);

  // Throws c10::OutOfMemoryError; its text names what was asked and what is free.
  c10::DataPtr allocate(size_t bytes) override;
  c10::DataPtr allocate_zeroed(size_t bytes);
  // For bytes that the caller overwrites before anyone sees them.
  c10::DataPtr allocate_raw(size_t bytes);
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  struct Header;
  struct Range {
    std::byte* begin = nullptr;
    uint64_t bytes = 0;
  };
  enum class Want : uint8_t { kOwnBytes, kZeros, kAnything };

  explicit CpuMemory(Range range);
  static Range reserve();
  c10::DataPtr give(size_t bytes, Want want);
  Arena::Block take(size_t bytes, uint64_t owner);
  // Their pages go back; they are zeros from then on.
  void discard(const Arena::Block& free) REQUIRES(mutex_);
  [[noreturn]] void refuse(size_t bytes) REQUIRES(mutex_);
  static void release(void* memory);

  const Range range_;
  mutable Mutex mutex_;
  Arena arena_ GUARDED_BY(mutex_);
  uint64_t budget_ GUARDED_BY(mutex_) = 0;
  uint64_t peak_ GUARDED_BY(mutex_) = 0;
};

}  // namespace djinn::server
