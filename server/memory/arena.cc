// SPDX-License-Identifier: Apache-2.0
#include "server/memory/arena.h"

#include <algorithm>
#include <bit>

namespace djinn::server {
namespace {

constexpr uint64_t kStepsLog2 = 3;  // eight bins per power of two
constexpr int kLooks = 8;           // into the bin whose parts may be long enough

uint64_t rounded_up(uint64_t bytes) {
  return (bytes + Arena::kGranule - 1) / Arena::kGranule * Arena::kGranule;
}

}  // namespace

Arena::Arena(uint64_t bytes, bool merge_zeros)
    : bytes_(bytes / kGranule * kGranule), limit_(bytes_), merge_zeros_(merge_zeros) {
  bins_.fill(kNone);
}

// The bin of a free part: by its length in granules, whose highest bit and the three below it
// count.
size_t Arena::bin_of(uint64_t bytes) {
  const uint64_t granules = bytes / kGranule;
  if (granules < 8) return granules;
  const auto power = static_cast<uint64_t>(std::bit_width(granules)) - 1;
  return ((power - kStepsLog2 + 1) << kStepsLog2) + ((granules >> (power - kStepsLog2)) & 7);
}

// The first bin in which every part has so many bytes.
size_t Arena::bin_above(uint64_t bytes) {
  const uint64_t granules = bytes / kGranule;
  if (granules < 8) return granules;
  const auto power = static_cast<uint64_t>(std::bit_width(granules)) - 1;
  const uint64_t step = uint64_t{1} << (power - kStepsLog2);
  return bin_of((granules + step - 1) * kGranule);
}

size_t Arena::next_bin(size_t bin) const {
  size_t word = bin / 64;
  if (word >= filled_.size()) return kBins;
  uint64_t bits = filled_[word] & (~uint64_t{0} << (bin % 64));
  while (bits == 0) {
    if (++word == filled_.size()) return kBins;
    bits = filled_[word];
  }
  return word * 64 + static_cast<size_t>(std::countr_zero(bits));
}

// A loop asks for the same lengths again, which lie in the bin that holds shorter ones too.
uint32_t Arena::find_like(uint64_t bytes, int looks) const {
  uint32_t id = bins_[bin_of(bytes)];
  for (; looks > 0 && id != kNone; --looks, id = nodes_[id].next) {
    if (nodes_[id].bytes >= bytes) return id;
  }
  return kNone;
}

uint32_t Arena::find(uint64_t bytes) const {
  const uint32_t like = find_like(bytes, kLooks);
  if (like != kNone) return like;
  const size_t bin = next_bin(bin_above(bytes));
  return bin == kBins ? kNone : bins_[bin];
}

// A free node at the top, out of what was never used. It is in no bin.
uint32_t Arena::grow(uint64_t bytes) {
  const bool extend = last_ != kNone && nodes_[last_].free && nodes_[last_].bytes < bytes &&
                      (merge_zeros_ || nodes_[last_].content == kZeros);
  const uint64_t begin = extend ? nodes_[last_].offset : top_;
  if (begin > limit_ || bytes > limit_ - begin) return kNone;
  if (extend) {
    remove(last_);
    Node& last = nodes_[last_];
    if (last.content != kZeros) last.content = kMixed;
    last.bytes = bytes;
    top_ = begin + bytes;
    return last_;
  }
  const uint32_t id = new_node({.offset = begin, .bytes = bytes, .before = last_, .free = true});
  if (last_ != kNone) nodes_[last_].after = id;
  last_ = id;
  top_ = begin + bytes;
  return id;
}

std::optional<Arena::Block> Arena::take(uint64_t bytes, uint64_t owner) {
  if (bytes > bytes_) return std::nullopt;
  const uint64_t wanted = std::max(rounded_up(bytes), kGranule);
  uint32_t id = find(wanted);
  uint32_t grown = kNone;
  if (id == kNone) grown = grow(wanted);
  if (id == kNone && grown == kNone) id = find_like(wanted, std::numeric_limits<int>::max());
  if (id != kNone) {
    remove(id);
    split(id, wanted);
  } else if (grown != kNone) {
    id = grown;
  } else {
    return std::nullopt;
  }
  Node& node = nodes_[id];
  const Block block{.id = id, .offset = node.offset, .bytes = node.bytes, .content = node.content};
  node.free = false;
  node.content = owner;
  used_ += node.bytes;
  return block;
}

Arena::Block Arena::give_back(uint32_t id) {
  nodes_[id].free = true;
  used_ -= nodes_[id].bytes;
  return settle(id);
}

Arena::Block Arena::zeroed(uint32_t id) {
  remove(id);
  nodes_[id].content = kZeros;
  return settle(id);
}

// A free node that is in no bin finds its place, together with its neighbours if they are free.
Arena::Block Arena::settle(uint32_t id) {
  const uint32_t before = nodes_[id].before;
  if (before != kNone && nodes_[before].free && may_merge(nodes_[before], nodes_[id])) {
    remove(before);
    merge_behind(before);
    id = before;
  }
  const uint32_t after = nodes_[id].after;
  if (after != kNone && nodes_[after].free && may_merge(nodes_[id], nodes_[after])) {
    remove(after);
    merge_behind(id);
  }
  insert(id);
  const Node& node = nodes_[id];
  return {.id = id, .offset = node.offset, .bytes = node.bytes, .content = node.content};
}

void Arena::for_each_free(uint64_t at_least, const std::function<void(const Block&)>& visit) const {
  std::vector<Block> found;  // `visit` may change the bins.
  for (size_t bin = next_bin(bin_of(at_least)); bin != kBins; bin = next_bin(bin + 1)) {
    for (uint32_t id = bins_[bin]; id != kNone; id = nodes_[id].next) {
      const Node& node = nodes_[id];
      if (node.bytes < at_least || node.content == kZeros) continue;
      found.push_back(
          {.id = id, .offset = node.offset, .bytes = node.bytes, .content = node.content});
    }
  }
  for (const Block& block : found) {
    const Node& node = nodes_[block.id];
    if (node.free && node.offset == block.offset && node.bytes == block.bytes) visit(block);
  }
}

uint64_t Arena::largest_free() const {
  const bool extend = last_ != kNone && nodes_[last_].free && merge_zeros_;
  const uint64_t begin = extend ? nodes_[last_].offset : top_;
  uint64_t largest = limit_ > begin ? limit_ - begin : 0;
  for (size_t bin = kBins; bin-- > 0;) {
    if (bins_[bin] == kNone) continue;
    for (uint32_t id = bins_[bin]; id != kNone; id = nodes_[id].next) {
      largest = std::max(largest, nodes_[id].bytes);
    }
    break;
  }
  return largest;
}

uint32_t Arena::new_node(const Node& node) {
  if (spare_ == kNone) {
    nodes_.push_back(node);
    return static_cast<uint32_t>(nodes_.size() - 1);
  }
  const uint32_t id = spare_;
  spare_ = nodes_[id].next;
  nodes_[id] = node;
  return id;
}

void Arena::insert(uint32_t id) {
  Node& node = nodes_[id];
  const size_t bin = bin_of(node.bytes);
  node.previous = kNone;
  node.next = bins_[bin];
  if (node.next != kNone) nodes_[node.next].previous = id;
  bins_[bin] = id;
  filled_[bin / 64] |= uint64_t{1} << (bin % 64);
  if (node.content != kZeros) waiting_ += node.bytes;
}

void Arena::remove(uint32_t id) {
  const Node& node = nodes_[id];
  const size_t bin = bin_of(node.bytes);
  if (node.previous != kNone) {
    nodes_[node.previous].next = node.next;
  } else {
    bins_[bin] = node.next;
    if (node.next == kNone) filled_[bin / 64] &= ~(uint64_t{1} << (bin % 64));
  }
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
  if (node.content != kZeros) waiting_ -= node.bytes;
}

// The node keeps its first bytes; the rest is a free node of its own.
void Arena::split(uint32_t id, uint64_t bytes) {
  if (nodes_[id].bytes == bytes) return;
  const Node whole = nodes_[id];
  const uint32_t rest = new_node({.offset = whole.offset + bytes,
                                  .bytes = whole.bytes - bytes,
                                  .content = whole.content,
                                  .before = id,
                                  .after = whole.after,
                                  .free = true});
  nodes_[id].bytes = bytes;
  nodes_[id].after = rest;
  if (whole.after != kNone) nodes_[whole.after].before = rest;
  if (last_ == id) last_ = rest;
  insert(rest);
}

bool Arena::may_merge(const Node& a, const Node& b) const {
  return merge_zeros_ || (a.content == kZeros) == (b.content == kZeros);
}

void Arena::merge_behind(uint32_t id) {
  Node& node = nodes_[id];
  const uint32_t gone = node.after;
  const Node& other = nodes_[gone];
  if (node.content != other.content) node.content = kMixed;
  node.bytes += other.bytes;
  node.after = other.after;
  if (node.after != kNone) nodes_[node.after].before = id;
  if (last_ == gone) last_ = id;
  nodes_[gone] = {.next = spare_};
  spare_ = gone;
}

}  // namespace djinn::server
