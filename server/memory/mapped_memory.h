// SPDX-License-Identifier: Apache-2.0
// Mapped memory: an arena over one reserved range of this process's memory.
//
// The range is as long as the machine's memory or the budget; pages are huge, come when they are
// touched first, and stay for the next who asks. With a budget no block lies above it, so what is
// resident is never more than that. Blocks remember the owner who wrote them (arena.h).
// Ownership: blocks must be released before the memory goes. Threading: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <thread>

#include "serialization/base/mutex.h"
#include "server/memory/account.h"
#include "server/memory/arena.h"
#include "server/memory/usage.h"

namespace djinn::server {

class MappedMemory {
 public:
  static constexpr size_t kAlignment = 64;

  struct Block {
    void* memory = nullptr;  // Null: no free part is that long, or its owner has its limit.
    uint64_t content = Arena::kZeros;  // whose bytes it holds
  };

  // Of this tier of the owners' accounts. Throws std::bad_alloc if the system lets us reserve
  // nothing.
  explicit MappedMemory(Tier tier);
  ~MappedMemory();
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;

  // 0: no limit. What is in use stays.
  void set_budget(uint64_t bytes);
  // With a budget, at this end of it (arena.h).
  [[nodiscard]] Block take(uint64_t bytes, const Owner& owner, Arena::End end = Arena::End::kLow);
  // Sets so many free bytes that lie together at the low end aside, in place of what was set aside
  // before: they are nobody's but this thread's, whose blocks at that end come out of them until
  // they are used up, or do not suffice, or `end_promise`. False: there is no such part.
  [[nodiscard]] bool promise(uint64_t bytes);
  void end_promise();
  // Moves the block and its bytes over the free part that lies outwards of it, if there is one.
  // Returns where it is now. Nobody else may use the block meanwhile.
  [[nodiscard]] void* slide(void* memory);
  void release(void* memory);
  // What a block that `take` gave has, its administration included.
  [[nodiscard]] static uint64_t bytes_of(void* memory);
  // Gives the pages of what is free back to the system.
  void trim();
  [[nodiscard]] MemoryUsage usage() const;

 private:
  struct Header;
  struct Range {
    std::byte* begin = nullptr;
    uint64_t bytes = 0;
    void* mapping = nullptr;
    uint64_t mapped = 0;
  };

  // Bytes that wait for the thread that they were promised to.
  struct Promise {
    Arena::Block part;
    std::thread::id to;
  };

  static Range reserve();
  [[nodiscard]] bool set_aside(uint64_t bytes) REQUIRES(mutex_);
  // How many bytes were set aside, which are free now.
  uint64_t withdraw() REQUIRES(mutex_);
  // Their pages go back; they are zeros from then on.
  void discard(const Arena::Block& free) REQUIRES(mutex_);

  const Tier tier_;
  const Range range_;
  mutable Mutex mutex_;
  Arena arena_ GUARDED_BY(mutex_);
  uint64_t budget_ GUARDED_BY(mutex_) = 0;
  uint64_t peak_ GUARDED_BY(mutex_) = 0;
  std::optional<Promise> promise_ GUARDED_BY(mutex_);
};

}  // namespace djinn::server
