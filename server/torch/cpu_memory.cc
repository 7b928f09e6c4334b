// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cpu_memory.h"

#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <cstring>

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

constexpr size_t kAlignment = 64;                // as LibTorch's own
constexpr size_t kLargeBytes = size_t{1} << 20;  // From here on blocks are mappings of their own.
constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kPageBytes = 4096;
constexpr uint64_t kWaitingBytesMax = uint64_t{1} << 30;
constexpr uint64_t kNobody = 0;

thread_local uint64_t current_owner = kNobody;

size_t rounded_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

}  // namespace

// Lies in front of the memory it describes.
struct alignas(kAlignment) CpuMemory::Block {
  Block* next;    // in its bin
  void* mapping;  // null: from malloc
  size_t mapped_bytes;
  size_t counted;  // against the budget
  uint32_t bin;
  bool zeros;      // Nobody has written it yet.
  uint64_t owner;  // The session whose bytes it holds.

  void* memory() { return this + 1; }
  static Block* of(void* memory) { return static_cast<Block*>(memory) - 1; }
};

// Up to 1 KiB in steps of 64 bytes, then eight steps per power of two.
size_t CpuMemory::bin_of(size_t bytes) {
  if (bytes <= 1024) return (bytes - 1) / 64;
  const auto power = static_cast<size_t>(std::bit_width(bytes - 1)) - 1;  // 2^power < bytes
  return 16 + (power - 10) * 8 + (((bytes - 1) >> (power - 3)) & 7);
}
size_t CpuMemory::bin_bytes(size_t bin) {
  if (bin < 16) return (bin + 1) * 64;
  const size_t power = 10 + (bin - 16) / 8;
  return (8 + (bin - 16) % 8 + 1) << (power - 3);
}

CpuMemory::Block* CpuMemory::Bin::pop() {
  lock();
  Block* const block = top_;
  if (block != nullptr) top_ = block->next;
  unlock();
  return block;
}
void CpuMemory::Bin::push(Block* block) {
  lock();
  block->next = top_;
  top_ = block;
  unlock();
}
CpuMemory::Block* CpuMemory::Bin::take_all() {
  lock();
  Block* const all = top_;
  top_ = nullptr;
  unlock();
  return all;
}

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
  std::string text = "out of memory: " + std::to_string(bytes) + " bytes were asked for";
  if (budget != 0) {
    text += ", " + std::to_string(budget > used ? budget - used : 0) + " of " +
            std::to_string(budget) + " are free";
  }
  C10_THROW_ERROR(OutOfMemoryError, text);
}

void CpuMemory::count(size_t bytes) {
  const uint64_t budget = budget_.load(std::memory_order_relaxed);
  const uint64_t used = used_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (budget != 0 && used > budget) {
    used_.fetch_sub(bytes, std::memory_order_relaxed);
    refuse(bytes);
  }
  uint64_t peak = peak_.load(std::memory_order_relaxed);
  while (used > peak && !peak_.compare_exchange_weak(peak, used, std::memory_order_relaxed)) {
  }
  // What waits is memory too; it goes first.
  if (budget != 0 && used + waiting_.load(std::memory_order_relaxed) > budget) trim();
}

CpuMemory::Block* CpuMemory::from_system(size_t bin) {
  const size_t bytes = sizeof(Block) + bin_bytes(bin);
  const auto number = static_cast<uint32_t>(bin);
  if (bytes < kLargeBytes) {
    void* const memory = std::aligned_alloc(kAlignment, bytes);
    if (memory == nullptr) return nullptr;
    return new (memory) Block{nullptr, nullptr, 0, 0, number, false, kNobody};
  }
  // The mapping is longer than needed, so that it can start where a huge page does.
  const size_t mapped = rounded_up(bytes, kPageBytes) + kHugePageBytes;
  void* const mapping =
      mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  auto* const start = reinterpret_cast<std::byte*>(
      rounded_up(reinterpret_cast<uintptr_t>(mapping), kHugePageBytes));
  // The tail stays in small pages: it would waste most of a huge one.
  madvise(start, bytes / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
  return new (start) Block{nullptr, mapping, mapped, 0, number, true, kNobody};
}

void CpuMemory::to_system(Block* block) {
  if (block->mapping != nullptr) {
    munmap(block->mapping, block->mapped_bytes);
  } else {
    std::free(block);
  }
}

void CpuMemory::trim() {
  for (Bin& bin : bins_) {
    Block* block = bin.take_all();
    while (block != nullptr) {
      Block* const next = block->next;
      waiting_.fetch_sub(bin_bytes(block->bin), std::memory_order_relaxed);
      to_system(block);
      block = next;
    }
  }
}

CpuMemory::Block* CpuMemory::take(size_t bytes) {
  if (bytes > kStorageBytesMax) refuse(bytes);
  const size_t counted = rounded_up(bytes, kAlignment);
  count(counted);
  const size_t bin = bin_of(bytes);
  Block* block = bins_[bin].pop();
  if (block != nullptr) {
    waiting_.fetch_sub(bin_bytes(bin), std::memory_order_relaxed);
  } else {
    block = from_system(bin);
  }
  if (block == nullptr) {
    used_.fetch_sub(counted, std::memory_order_relaxed);
    refuse(bytes);
  }
  block->counted = counted;
  return block;
}

c10::DataPtr CpuMemory::give(size_t bytes, Want want) {
  const c10::Device cpu(c10::kCPU);
  if (bytes == 0) return {nullptr, nullptr, &release, cpu};
  Block* const block = take(bytes);
  const bool others = block->owner != current_owner || current_owner == kNobody;
  if (!block->zeros && (want == Want::kZeros || (want == Want::kOwnBytes && others))) {
    std::memset(block->memory(), 0, bytes);
  }
  block->zeros = false;
  block->owner = current_owner;
  return {block->memory(), block->memory(), &release, cpu};
}

void CpuMemory::release(void* memory) {
  if (memory == nullptr) return;
  CpuMemory& self = instance();
  Block* const block = Block::of(memory);
  self.used_.fetch_sub(block->counted, std::memory_order_relaxed);
  const size_t bytes = bin_bytes(block->bin);
  if (self.waiting_.load(std::memory_order_relaxed) + bytes > kWaitingBytesMax) {
    to_system(block);
    return;
  }
  self.waiting_.fetch_add(bytes, std::memory_order_relaxed);
  self.bins_[block->bin].push(block);
}

c10::DataPtr CpuMemory::allocate(size_t bytes) { return give(bytes, Want::kOwnBytes); }
c10::DataPtr CpuMemory::allocate_zeroed(size_t bytes) { return give(bytes, Want::kZeros); }
c10::DataPtr CpuMemory::allocate_raw(size_t bytes) { return give(bytes, Want::kAnything); }

void CpuMemory::set_owner(uint64_t session) { current_owner = session; }

}  // namespace djinn::server
