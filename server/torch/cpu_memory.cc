// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cpu_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

constexpr size_t kAlignment = 64;  // as LibTorch's own
constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kWaitingBytesMax = uint64_t{1} << 30;  // without a budget
constexpr uint64_t kDiscardBytesMin = uint64_t{1} << 20;  // Fewer are not worth a system call.
constexpr uint64_t kNobody = Arena::kMixed - 1;           // Not even its own bytes are.
static_assert(kAlignment == Arena::kGranule);

thread_local uint64_t current_owner = kNobody;

uint64_t rounded_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

}  // namespace

// Lies in front of the memory it describes.
struct alignas(kAlignment) CpuMemory::Header {
  uint32_t block;

  static Header* of(void* memory) { return static_cast<Header*>(memory) - 1; }
};

// As much as the machine has, or what the system lets us reserve; none of it is touched.
CpuMemory::Range CpuMemory::reserve() {
  const auto pages = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES));
  uint64_t bytes = rounded_up(pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)), kHugePageBytes);
  for (; bytes >= kHugePageBytes; bytes = rounded_up(bytes / 2, kHugePageBytes)) {
    void* const range = mmap(nullptr, bytes + kHugePageBytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) continue;
    auto* const begin = reinterpret_cast<std::byte*>(
        rounded_up(reinterpret_cast<uintptr_t>(range), kHugePageBytes));
    madvise(begin, bytes, MADV_HUGEPAGE);
    return {begin, bytes};
  }
  throw std::bad_alloc();
}

CpuMemory::CpuMemory(Range range) : range_(range), arena_(range.bytes, false) {}

CpuMemory& CpuMemory::instance() {
  static CpuMemory* const memory = [] {
    auto* made =
        new CpuMemory(reserve());  // Tensors of static objects may outlive any order of ends.
    c10::SetCPUAllocator(made, 100);
    return made;
  }();
  return *memory;
}

void CpuMemory::set_budget(uint64_t bytes) {
  const MutexLock lock(mutex_);
  budget_ = bytes;
  arena_.set_limit(bytes == 0 ? range_.bytes : bytes);
  // Long parts count for more than known zeros where memory is short.
  arena_.set_merge_zeros(bytes != 0);
}

DeviceMemory CpuMemory::usage() const {
  const MutexLock lock(mutex_);
  return {.budget_bytes = budget_, .used_bytes = arena_.used_bytes(), .peak_bytes = peak_};
}

void CpuMemory::refuse(size_t bytes) {
  const uint64_t used = arena_.used_bytes();
  std::string text = "out of memory: " + std::to_string(bytes) + " bytes were asked for";
  if (budget_ != 0) {
    text += ", " + std::to_string(budget_ > used ? budget_ - used : 0) + " of " +
            std::to_string(budget_) + " are free, the longest part has " +
            std::to_string(arena_.largest_free());
  }
  C10_THROW_ERROR(OutOfMemoryError, text);
}

void CpuMemory::trim() {
  const MutexLock lock(mutex_);
  arena_.for_each_free(kPageBytes,
                       [this](const Arena::Block& free) REQUIRES(mutex_) { discard(free); });
}

void CpuMemory::discard(const Arena::Block& free) {
  const uint64_t end = free.offset + free.bytes;
  const uint64_t first = std::min(rounded_up(free.offset, kPageBytes), end);
  const uint64_t last = std::max(end / kPageBytes * kPageBytes, first);
  std::memset(range_.begin + free.offset, 0, first - free.offset);
  if (last > first) madvise(range_.begin + first, last - first, MADV_DONTNEED);
  std::memset(range_.begin + last, 0, end - last);
  arena_.zeroed(free.id);
}

Arena::Block CpuMemory::take(size_t bytes, uint64_t owner) {
  const uint64_t wanted = bytes + sizeof(Header);
  const MutexLock lock(mutex_);
  if (bytes > kStorageBytesMax) refuse(bytes);
  if (budget_ != 0 && arena_.used_bytes() + wanted > budget_) refuse(bytes);
  const auto block = arena_.take(wanted, owner);
  if (!block) refuse(bytes);
  peak_ = std::max(peak_, arena_.used_bytes());
  return *block;
}

c10::DataPtr CpuMemory::give(size_t bytes, Want want) {
  const c10::Device cpu(c10::kCPU);
  if (bytes == 0) return {nullptr, nullptr, &release, cpu};
  const uint64_t owner = current_owner;
  const Arena::Block block = take(bytes, owner);
  auto* const header = new (range_.begin + block.offset) Header{block.id};
  void* const memory = header + 1;
  const bool others = block.content != owner || owner == kNobody;
  if (block.content != Arena::kZeros &&
      (want == Want::kZeros || (want == Want::kOwnBytes && others))) {
    std::memset(memory, 0, bytes);
  }
  return {memory, memory, &release, cpu};
}

void CpuMemory::release(void* memory) {
  if (memory == nullptr) return;
  CpuMemory& self = instance();
  const uint32_t block = Header::of(memory)->block;
  const MutexLock lock(self.mutex_);
  const Arena::Block free = self.arena_.give_back(block);
  if (self.budget_ == 0 && free.bytes >= kDiscardBytesMin && free.content != Arena::kZeros &&
      self.arena_.waiting_bytes() > kWaitingBytesMax) {
    self.discard(free);
  }
}

c10::DataPtr CpuMemory::allocate(size_t bytes) { return give(bytes, Want::kOwnBytes); }
c10::DataPtr CpuMemory::allocate_zeroed(size_t bytes) { return give(bytes, Want::kZeros); }
c10::DataPtr CpuMemory::allocate_raw(size_t bytes) { return give(bytes, Want::kAnything); }

void CpuMemory::set_owner(uint64_t session) { current_owner = session == 0 ? kNobody : session; }

}  // namespace djinn::server
