// SPDX-License-Identifier: Apache-2.0
// Owners: whose bytes lie in the device memory that LibTorch's allocator hands out.
//
// A tenant never sees bytes of another one, and kernels leave gaps in their results, so memory that
// changes hands is zeroed. Zeroing all memory would cost a kernel per operator; a session that gets
// back what it had itself needs none. Ranges that nobody is known to have had (fresh from the
// driver, which may pass on what this process returned) count as somebody else's.
// Threading: none of its own; the allocator calls under its lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <unordered_map>

namespace djinn::server::cuda {

class Owners {
 public:
  static constexpr uint64_t kNobody = 0;
  // The allocator rounds every block up to a multiple of this.
  static constexpr size_t kGranule = 512;

  // The block goes to `owner`. How many of its bytes must be zeroed first: all, whole granules, or
  // none. `overwritten`: the owner writes every byte before it reads one, so none.
  size_t take(uintptr_t at, size_t bytes, uint64_t owner, bool overwritten);
  // The block is free, and keeps what its owner left.
  void give_back(uintptr_t at);
  // The range went back to the driver.
  void forget(uintptr_t at, size_t bytes);

 private:
  struct Range {
    uintptr_t end = 0;
    uint64_t owner = kNobody;
  };
  struct Block {
    size_t bytes = 0;
    uint64_t owner = kNobody;
  };
  [[nodiscard]] bool belongs(uintptr_t at, uintptr_t end, uint64_t owner) const;

  std::map<uintptr_t, Range> free_;  // by first byte; they do not overlap
  std::unordered_map<uintptr_t, Block> blocks_;
};

}  // namespace djinn::server::cuda
