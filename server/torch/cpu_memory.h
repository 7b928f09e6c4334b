// SPDX-License-Identifier: Apache-2.0
// CPU memory: every byte that ATen allocates in this process, in one mapped arena.
//
// Why not malloc: aligned blocks cost it 60 ns and touching fresh pages runs at 2 GB/s, so a step
// that repeats pays more for its memory than for small operators. Who sees what: memory that
// changes hands is zeroed - kernels leave gaps in their results, so "the operator will overwrite
// it" is not enough. Why process-wide: LibTorch asks one allocator per kind of device. Kernels' own
// scratch (oneDNN, MKL) does not pass through here.
// Ownership: the allocator lives as long as the process. Threading: any thread.
#pragma once

#include <cstdint>
#include <functional>

#include <c10/core/Allocator.h>

#include "server/executor.h"
#include "server/memory/mapped_memory.h"

namespace djinn::server {

class CpuMemory final : public c10::Allocator {
 public:
  // The allocator of the process; at its first call it takes LibTorch's place.
  static CpuMemory& instance();

  // 0: no limit. What is in use stays.
  void set_budget(uint64_t bytes) { memory_.set_budget(bytes); }
  [[nodiscard]] MemoryUsage usage() const { return memory_.usage(); }
  // Gives the pages of what is free back to the system.
  void trim() { memory_.trim(); }
  // What frees memory when a block of so many bytes was refused to an account; false: nothing more
  // can go. Set
  // before the first allocation that needs it, called by the thread that allocates.
  using MakeRoom = std::function<bool(uint64_t bytes, const Account* account)>;
  void set_make_room(MakeRoom make_room) { make_room_ = std::move(make_room); }
  // Whose work the calling thread does from here on.
  static void set_owner(const Owner& owner);
  [[nodiscard]] static const Owner& owner();
  // For tests: an allocation is refused if this says so. Set while nobody allocates.
  using Fault = std::function<bool(uint64_t bytes)>;
  void set_fault(Fault fault) { fault_ = std::move(fault); }

  // Throws c10::OutOfMemoryError; its text names what was asked and what is free.
  c10::DataPtr allocate(size_t bytes) override;
  c10::DataPtr allocate_zeroed(size_t bytes);
  // For bytes that the caller overwrites before anyone sees them.
  c10::DataPtr allocate_raw(size_t bytes);
  // Uninitialised, without asking anybody to make room. Null: there is none. To be released.
  void* try_allocate(size_t bytes, const Owner& owner) { return memory_.take(bytes, owner).memory; }
  // Those of MappedMemory.
  void* slide(void* memory) { return memory_.slide(memory); }
  [[nodiscard]] bool promise(uint64_t bytes) { return memory_.promise(bytes); }
  void end_promise() { memory_.end_promise(); }
  static void release(void* memory);
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  enum class Want : uint8_t { kOwnBytes, kZeros, kAnything };

  CpuMemory() = default;
  c10::DataPtr give(size_t bytes, Want want);
  MappedMemory::Block take(size_t bytes, const Owner& owner);
  [[noreturn]] void refuse(size_t bytes, const Owner& owner) const;

  MappedMemory memory_{Tier::kDevice};
  MakeRoom make_room_;
  Fault fault_;
};

}  // namespace djinn::server
