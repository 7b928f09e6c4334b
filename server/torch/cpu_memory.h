// SPDX-License-Identifier: Apache-2.0
// CPU memory: every byte that ATen allocates in this process, counted against one budget, and kept
// for the next who asks for as much.
//
// Why not malloc: aligned blocks cost it 60 ns and touching fresh pages runs at 2 GB/s, so a step
// that repeats pays more for its memory than for small operators. Freed blocks wait in bins of
// equal length (eight per power of two); large ones are mapped with huge pages. Who sees what: a
// block remembers the session that wrote it, and is zeroed before another one gets it - kernels
// leave gaps in their results, so "the operator will overwrite it" is not enough. Why process-wide:
// LibTorch asks one allocator per kind of device. Kernels' own scratch (oneDNN, MKL) does not pass
// through here. Ownership: the allocator lives as long as the process. Threading: any thread.
#pragma once

#include <array>
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
  // Gives what waits in the bins back to the system.
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
  struct Block;
  // A stack of free blocks. Two threads rarely meet in one, so it spins.
  class Bin {
   public:
    Block* pop();
    void push(Block* block);
    Block* take_all();

   private:
    void lock() {
      while (busy_.test_and_set(std::memory_order_acquire)) {
      }
    }
    void unlock() { busy_.clear(std::memory_order_release); }
    std::atomic_flag busy_;
    Block* top_ = nullptr;
  };
  static constexpr size_t kBins = 400;

  CpuMemory() = default;
  static size_t bin_of(size_t bytes);
  static size_t bin_bytes(size_t bin);
  enum class Want : uint8_t { kOwnBytes, kZeros, kAnything };
  c10::DataPtr give(size_t bytes, Want want);
  Block* take(size_t bytes);
  static Block* from_system(size_t bin);
  static void to_system(Block* block);
  void count(size_t bytes);
  [[noreturn]] void refuse(size_t bytes) const;
  static void release(void* memory);

  std::atomic<uint64_t> budget_{0};
  std::atomic<uint64_t> used_{0};
  std::atomic<uint64_t> peak_{0};
  std::atomic<uint64_t> waiting_{0};  // bytes in the bins
  std::array<Bin, kBins> bins_;
};

}  // namespace djinn::server
