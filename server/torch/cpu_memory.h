// SPDX-License-Identifier: Apache-2.0
// CPU memory: every byte that ATen allocates in this process, counted against one budget.
//
// Why process-wide: LibTorch asks one allocator per kind of device. Kernels' own scratch (oneDNN,
// MKL) does not pass through here.
// Ownership: the allocator lives as long as the process. Threading: any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include <c10/core/Allocator.h>

#include "server/executor.h"

namespace djinn::server {

class CpuMemory final : public c10::Allocator {
 public:
  // The allocator of the process; at its first call it takes LibTorch's place.
  static CpuMemory& instance();

  // 0: no limit. What is in use stays.
  void set_budget(uint64_t bytes) { budget_ = bytes; }
  [[nodiscard]] DeviceMemory usage() const;

  // Throws c10::OutOfMemoryError; its text names what was asked and what is free.
  c10::DataPtr allocate(size_t bytes) override;
  c10::DataPtr allocate_zeroed(size_t bytes);
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  CpuMemory() = default;
  void* take(size_t bytes, bool zeroed);
  [[noreturn]] void refuse(size_t bytes) const;
  static void release(void* memory);

  std::atomic<uint64_t> budget_{0};
  std::atomic<uint64_t> used_{0};
  std::atomic<uint64_t> peak_{0};
};

}  // namespace djinn::server
