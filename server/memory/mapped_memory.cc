// SPDX-License-Identifier: Apache-2.0
#include "server/memory/mapped_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <optional>

namespace djinn::server {
namespace {

constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kWaitingBytesMax = uint64_t{1} << 30;  // without a budget
constexpr uint64_t kDiscardBytesMin = uint64_t{1} << 20;  // Fewer are not worth a system call.
static_assert(MappedMemory::kAlignment == Arena::kGranule);

uint64_t rounded_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

}  // namespace

// Lies in front of the memory it describes.
struct alignas(MappedMemory::kAlignment) MappedMemory::Header {
  uint32_t block;
  uint64_t bytes;
  Account* account;

  static Header* of(void* memory) { return static_cast<Header*>(memory) - 1; }
};

// As much as the machine has, or what the system lets us reserve; none of it is touched.
MappedMemory::Range MappedMemory::reserve() {
  const auto pages = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES));
  uint64_t bytes = rounded_up(pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)), kHugePageBytes);
  for (; bytes > kHugePageBytes; bytes = rounded_up(bytes / 2, kHugePageBytes)) {
    void* const mapping = mmap(nullptr, bytes + kHugePageBytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) continue;
    void* begin = mapping;
    size_t room = bytes + kHugePageBytes;
    std::align(kHugePageBytes, bytes, begin, room);
    madvise(begin, bytes, MADV_HUGEPAGE);
    return {static_cast<std::byte*>(begin), bytes, mapping, bytes + kHugePageBytes};
  }
  throw std::bad_alloc();
}

MappedMemory::MappedMemory(Tier tier)
    : tier_(tier), range_(reserve()), arena_(range_.bytes, false) {}

MappedMemory::~MappedMemory() { munmap(range_.mapping, range_.mapped); }

void MappedMemory::set_budget(uint64_t bytes) {
  const MutexLock lock(mutex_);
  budget_ = bytes;
  arena_.set_limit(bytes == 0 ? range_.bytes : bytes);
  // Long parts count for more than known zeros where memory is short.
  arena_.set_merge_zeros(bytes != 0);
}

MemoryUsage MappedMemory::usage() const {
  const MutexLock lock(mutex_);
  return {.budget = budget_,
          .used = arena_.used_bytes(),
          .peak = peak_,
          .largest_free = arena_.largest_free()};
}

void MappedMemory::trim() {
  const MutexLock lock(mutex_);
  arena_.for_each_free(kPageBytes,
                       [this](const Arena::Block& free) REQUIRES(mutex_) { discard(free); });
}

void MappedMemory::discard(const Arena::Block& free) {
  const uint64_t end = free.offset + free.bytes;
  const uint64_t first = std::min(rounded_up(free.offset, kPageBytes), end);
  const uint64_t last = std::max(end / kPageBytes * kPageBytes, first);
  std::memset(range_.begin + free.offset, 0, first - free.offset);
  if (last > first) madvise(range_.begin + first, last - first, MADV_DONTNEED);
  std::memset(range_.begin + last, 0, end - last);
  arena_.zeroed(free.id);
}

MappedMemory::Block MappedMemory::take(uint64_t bytes, const Owner& owner, Arena::End end) {
  const uint64_t wanted = bytes + sizeof(Header);
  const MutexLock lock(mutex_);
  if (owner.account != nullptr && owner.account->is_full(tier_, wanted)) return {};
  const bool mine = promise_ && promise_->to == std::this_thread::get_id();
  const uint64_t promised = mine ? withdraw() : 0;
  if (budget_ != 0 && arena_.used_bytes() + wanted > budget_) return {};
  const auto block = arena_.take(wanted, owner.session, budget_ == 0 ? Arena::End::kLow : end);
  if (!block) return {};
  const uint64_t out_of_it = end == Arena::End::kLow ? std::min(block->bytes, promised) : 0;
  if (promised > out_of_it) {  // Else there is nothing left to set aside.
    const uint64_t left = std::min(promised - out_of_it, arena_.largest_free());
    if (left > 0) (void)set_aside(left);
  }
  if (owner.account != nullptr && !owner.account->charge(tier_, block->bytes)) {
    arena_.give_back(block->id);
    return {};
  }
  peak_ = std::max(peak_, arena_.used_bytes());
  auto* const header =
      new (range_.begin + block->offset) Header{block->id, block->bytes, owner.account};
  return {header + 1, block->content};
}

bool MappedMemory::promise(uint64_t bytes) {
  const MutexLock lock(mutex_);
  withdraw();
  return set_aside(bytes);
}

void MappedMemory::end_promise() {
  const MutexLock lock(mutex_);
  withdraw();
}

bool MappedMemory::set_aside(uint64_t bytes) {
  if (budget_ != 0 && arena_.used_bytes() + bytes > budget_) return false;
  const auto part = arena_.take(bytes, Owner::kNobody);
  if (part) promise_ = Promise{.part = *part, .to = std::this_thread::get_id()};
  return part.has_value();
}

uint64_t MappedMemory::withdraw() {
  if (!promise_) return 0;
  const uint64_t bytes = promise_->part.bytes;
  arena_.put_back(promise_->part);
  promise_.reset();
  return bytes;
}

void* MappedMemory::slide(void* memory) {
  const Header header = *Header::of(memory);
  std::optional<uint64_t> to;
  {
    const MutexLock lock(mutex_);
    to = arena_.open(header.block);
  }
  if (!to) return memory;
  auto* const moved = reinterpret_cast<Header*>(range_.begin + *to);
  std::memmove(moved, Header::of(memory), header.bytes);
  const MutexLock lock(mutex_);
  arena_.close(header.block, header.bytes);
  return moved + 1;
}

uint64_t MappedMemory::bytes_of(void* memory) { return Header::of(memory)->bytes; }

void MappedMemory::release(void* memory) {
  const Header header = *Header::of(memory);
  const MutexLock lock(mutex_);
  if (header.account != nullptr) header.account->credit(tier_, header.bytes);
  const Arena::Block free = arena_.give_back(header.block);
  if (budget_ == 0 && free.bytes >= kDiscardBytesMin && free.content != Arena::kZeros &&
      arena_.waiting_bytes() > kWaitingBytesMax) {
    discard(free);
  }
}

}  // namespace djinn::server
