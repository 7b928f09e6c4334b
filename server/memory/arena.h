// SPDX-License-Identifier: Apache-2.0
// Arena: which parts of one range of bytes are in use, and what lies in those that are not.
//
// Why our own: it must manage memory that it cannot touch (a GPU's), say how long the longest free
// part is, and remember who wrote what is free - memory that changes hands is zeroed, and a session
// that gets its own bytes back needs no zeroing. Free parts lie in bins by length (eight per power
// of two, found by two bit scans, after TLSF: Masmano et al., ECRTS 2004); neighbours merge when
// they become free.
// Blocks lie at two ends: those that can be moved at the low one, those that cannot at the high
// one, and what is free between them belongs to whoever asks first. So a small block that nobody
// can move never cuts the part in which the large ones lie; `open` and `close` move these together.
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

  enum class End : uint8_t { kLow, kHigh };

  struct Block {
    uint32_t id = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;         // as long as was asked for, or a little longer
    uint64_t content = kZeros;  // what it holds now
  };

  // `bytes`: the length of the range. `merge_zeros`: parts that hold zeros merge with others, which
  // then hold a mixture. That makes the longest parts, and forgets zeros.
  Arena(uint64_t bytes, bool merge_zeros);

  // A block for this owner (not kZeros, not kMixed); none if no free part at this end or between
  // the ends is long enough.
  std::optional<Block> take(uint64_t bytes, uint64_t owner, End end = End::kLow);
  // The block is free and holds what its owner left. Returns the free part it now belongs to.
  Block give_back(uint32_t id);
  // The same of a block that nobody wrote: it holds what it held when it was taken.
  Block put_back(const Block& unwritten);
  // The free part (not a block in use) holds zeros now. Returns the free part it now belongs to.
  Block zeroed(uint32_t id);
  // Every free part of at least so many bytes that does not hold zeros.
  void for_each_free(uint64_t at_least, const std::function<void(const Block&)>& visit) const;
  // Blocks lie below this from now on; those that lie above it stay. Not above the range's length.
  // Every block that is there counts as one of the low end.
  void set_limit(uint64_t bytes);

  // Moving a block outwards, over the free part that lies there: `open` makes both one block and
  // says at which offset the bytes belong; when they are there, `close` frees what lies inwards of
  // them. None: no part there is free.
  std::optional<uint64_t> open(uint32_t id);
  void close(uint32_t id, uint64_t bytes);
  void set_merge_zeros(bool merge) { merge_zeros_ = merge; }

  [[nodiscard]] uint64_t length_of(uint32_t id) const { return nodes_[id].bytes; }
  [[nodiscard]] uint64_t used_bytes() const { return used_; }
  // Free, used before, and not known to be zeros.
  [[nodiscard]] uint64_t waiting_bytes() const { return waiting_; }
  // The longest block that `take` would find at this end.
  [[nodiscard]] uint64_t largest_free(End end = End::kLow) const;

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
    End end = End::kLow;
  };
  // The parts at one end: those that are free in bins, and the one that lies innermost.
  struct Side {
    Side() { bins.fill(kNone); }
    std::array<uint32_t, kBins> bins;
    std::array<uint64_t, (kBins + 63) / 64> filled{};  // one bit per bin
    uint32_t innermost = kNone;
  };
  struct Part {
    uint64_t begin = 0;
    uint64_t end = 0;
  };

  static size_t bin_of(uint64_t bytes);
  static size_t bin_above(uint64_t bytes);
  [[nodiscard]] static size_t next_bin(const Side& side, size_t bin);
  [[nodiscard]] const Side& side(End end) const { return sides_[static_cast<size_t>(end)]; }
  [[nodiscard]] Side& side(End end) { return sides_[static_cast<size_t>(end)]; }
  [[nodiscard]] uint32_t find(uint64_t bytes, End end) const;
  [[nodiscard]] uint32_t find_like(uint64_t bytes, End end, int looks) const;
  // What lies between the ends, and these ones' innermost parts if they are free.
  [[nodiscard]] Part between(bool with_low, bool with_high) const;
  [[nodiscard]] bool may_extend(End end) const;
  uint32_t grow(uint64_t bytes, End end);
  uint32_t append(Node node);
  // The innermost part, which is free, belongs to neither end any more.
  void retreat(End end);
  void fold();
  uint32_t new_node(const Node& node);
  void free_node(uint32_t id);
  Block settle(uint32_t id);
  void insert(uint32_t id);
  void remove(uint32_t id);
  // The node keeps its outer bytes; the rest is a free node of its own, in no bin. kNone: no rest.
  uint32_t split(uint32_t id, uint64_t bytes);
  // The node behind becomes part of this one. Neither is in a bin.
  void merge_behind(uint32_t id);
  [[nodiscard]] bool may_merge(const Node& a, const Node& b) const;
  [[nodiscard]] Block block(uint32_t id) const;

  uint64_t bytes_;
  uint64_t limit_;
  uint64_t low_top_ = 0;      // The low end's parts lie below,
  uint64_t high_bottom_;      // and the high end's above.
  uint64_t clean_begin_ = 0;  // What lies between these was never used.
  uint64_t clean_end_;
  uint64_t used_ = 0;
  uint64_t waiting_ = 0;
  bool merge_zeros_;
  uint32_t spare_ = kNone;  // nodes that describe nothing, linked by `next`
  std::vector<Node> nodes_;
  std::array<Side, 2> sides_;
};

}  // namespace djinn::server
