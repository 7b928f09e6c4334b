// SPDX-License-Identifier: Apache-2.0
// Arena: which parts of one range of bytes are in use, and what lies in those that are not.
//
// Why our own: it must manage memory that it cannot touch (a GPU's), say how long the longest free
// part is, and remember who wrote what is free - memory that changes hands is zeroed, and a session
// that gets its own bytes back needs no zeroing. Free parts lie in bins by length (eight per power
// of two, found by two bit scans, after TLSF: Masmano et al., ECRTS 2004); neighbours merge when
// they become free. What was never used lies above all blocks and is touched last.
// Threading: none of its own.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

namespace djinn::server {

class Arena {
 public:
  static constexpr uint64_t kGranule = 64;  // Offsets and lengths are multiples of it.
  // What a free part holds: the bytes of one owner, or:
  static constexpr uint64_t kZeros = 0;
  static constexpr uint64_t kMixed = std::numeric_limits<uint64_t>::max();

  struct Block {
    uint32_t id = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;         // as long as was asked for, or a little longer
    uint64_t content = kZeros;  // what it holds now
  };

  // `bytes`: the length of the range. `merge_zeros`: parts that hold zeros merge with others, which
  // then hold a mixture. That makes the longest parts, and forgets zeros.
  Arena(uint64_t bytes, bool merge_zeros);

  // A block for this owner (not kZeros, not kMixed); none if no free part is long enough.
  std::optional<Block> take(uint64_t bytes, uint64_t owner);
  // The block is free and holds what its owner left. Returns the free part it now belongs to.
  Block give_back(uint32_t id);
  // The free part (not a block in use) holds zeros now. Returns the free part it now belongs to.
  Block zeroed(uint32_t id);
  // Every free part of at least so many bytes that does not hold zeros.
  void for_each_free(uint64_t at_least, const std::function<void(const Block&)>& visit) const;
  // Blocks lie below this from now on; those that lie above it stay. Not above the range's length.
  void set_limit(uint64_t bytes) { limit_ = bytes < bytes_ ? bytes : bytes_; }
  void set_merge_zeros(bool merge) { merge_zeros_ = merge; }

  [[nodiscard]] uint64_t length_of(uint32_t id) const { return nodes_[id].bytes; }
  [[nodiscard]] uint64_t used_bytes() const { return used_; }
  // Free, used before, and not known to be zeros.
  [[nodiscard]] uint64_t waiting_bytes() const { return waiting_; }
  // The longest block that `take` would find.
  [[nodiscard]] uint64_t largest_free() const;

 private:
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  static constexpr size_t kBins = 8 + 64 * 8;
  struct Node {
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t content = kZeros;
    uint32_t before = kNone;  // the neighbours in the range
    uint32_t after = kNone;
    uint32_t next = kNone;  // in the bin
    uint32_t previous = kNone;
    bool free = false;
  };

  static size_t bin_of(uint64_t bytes);
  static size_t bin_above(uint64_t bytes);
  [[nodiscard]] uint32_t find(uint64_t bytes) const;
  [[nodiscard]] uint32_t find_like(uint64_t bytes, int looks) const;
  [[nodiscard]] size_t next_bin(size_t bin) const;
  uint32_t grow(uint64_t bytes);
  uint32_t new_node(const Node& node);
  Block settle(uint32_t id);
  void insert(uint32_t id);
  void remove(uint32_t id);
  void split(uint32_t id, uint64_t bytes);
  // Merges two free nodes that are in no bin: this one and the one behind it.
  void merge_behind(uint32_t id);
  [[nodiscard]] bool may_merge(const Node& a, const Node& b) const;

  uint64_t bytes_;
  uint64_t limit_;
  uint64_t top_ = 0;  // Nothing above it has been used.
  uint64_t used_ = 0;
  uint64_t waiting_ = 0;
  bool merge_zeros_;
  uint32_t last_ = kNone;   // the node that ends at top_
  uint32_t spare_ = kNone;  // nodes that describe nothing, linked by `next`
  std::vector<Node> nodes_;
  std::array<uint32_t, kBins> bins_;
  std::array<uint64_t, (kBins + 63) / 64> filled_{};  // one bit per bin
};

}  // namespace djinn::server
