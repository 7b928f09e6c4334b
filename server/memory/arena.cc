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
    : bytes_(bytes / kGranule * kGranule),
      limit_(bytes_),
      high_bottom_(bytes_),
      clean_end_(bytes_),
      merge_zeros_(merge_zeros) {}

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

size_t Arena::next_bin(const Side& side, size_t bin) {
  size_t word = bin / 64;
  if (word >= side.filled.size()) return kBins;
  uint64_t bits = side.filled[word] & (~uint64_t{0} << (bin % 64));
  while (bits == 0) {
    if (++word == side.filled.size()) return kBins;
    bits = side.filled[word];
  }
  return word * 64 + static_cast<size_t>(std::countr_zero(bits));
}

// A loop asks for the same lengths again, which lie in the bin that holds shorter ones too.
uint32_t Arena::find_like(uint64_t bytes, End end, int looks) const {
  uint32_t id = side(end).bins[bin_of(bytes)];
  for (; looks > 0 && id != kNone; --looks, id = nodes_[id].next) {
    if (nodes_[id].bytes >= bytes) return id;
  }
  return kNone;
}

uint32_t Arena::find(uint64_t bytes, End end) const {
  const uint32_t like = find_like(bytes, end, kLooks);
  if (like != kNone) return like;
  const size_t bin = next_bin(side(end), bin_above(bytes));
  return bin == kBins ? kNone : side(end).bins[bin];
}

Arena::Part Arena::between(bool with_low, bool with_high) const {
  Part part{.begin = low_top_, .end = high_bottom_};
  if (with_low) part.begin = nodes_[side(End::kLow).innermost].offset;
  if (with_high) {
    const Node& high = nodes_[side(End::kHigh).innermost];
    part.end = high.offset + high.bytes;
  }
  part.end = std::max(std::min(part.end, limit_), part.begin);  // Blocks may lie above the limit.
  return part;
}

// The innermost part is free, and what lies between may become one with it.
bool Arena::may_extend(End end) const {
  const uint32_t inner = side(end).innermost;
  return inner != kNone && nodes_[inner].free && (merge_zeros_ || nodes_[inner].content == kZeros);
}

void Arena::retreat(End end) {
  const uint32_t gone = side(end).innermost;
  remove(gone);
  const Node node = nodes_[gone];
  if (end == End::kLow) {
    low_top_ = node.offset;
    side(end).innermost = node.before;
    if (node.before != kNone) nodes_[node.before].after = kNone;
  } else {
    high_bottom_ = node.offset + node.bytes;
    side(end).innermost = node.after;
    if (node.after != kNone) nodes_[node.after].before = kNone;
  }
  free_node(gone);
}

// A free node at this end, out of what lies between the ends. It is in no bin.
uint32_t Arena::grow(uint64_t bytes, End end) {
  const bool low = end == End::kLow;
  const End other = low ? End::kHigh : End::kLow;
  const bool extend = may_extend(end) && nodes_[side(end).innermost].bytes < bytes;
  Part part = between(low && extend, !low && extend);
  if (part.end - part.begin < bytes) {
    if (!may_extend(other)) return kNone;
    part = between(!low || extend, low || extend);
    if (part.end - part.begin < bytes) return kNone;
    retreat(other);
  }
  const uint64_t begin = low ? part.begin : part.end - bytes;
  const Part fresh{.begin = low ? low_top_ : begin, .end = low ? begin + bytes : high_bottom_};
  bool zeros = fresh.begin >= clean_begin_ && fresh.end <= clean_end_;
  if (extend) {
    zeros = zeros && nodes_[side(end).innermost].content == kZeros;
    retreat(end);
  }
  return append({.offset = begin,
                 .bytes = bytes,
                 .content = zeros ? kZeros : kMixed,
                 .free = true,
                 .end = end});
}

// The node is the innermost of its end from here on.
uint32_t Arena::append(Node node) {
  Side& to = side(node.end);
  const uint32_t outer = to.innermost;
  const bool low = node.end == End::kLow;
  (low ? node.before : node.after) = outer;
  const uint32_t id = new_node(node);
  if (outer != kNone) (low ? nodes_[outer].after : nodes_[outer].before) = id;
  to.innermost = id;
  if (low) {
    low_top_ = node.offset + node.bytes;
    clean_begin_ = std::max(clean_begin_, low_top_);
  } else {
    high_bottom_ = node.offset;
    clean_end_ = std::min(clean_end_, high_bottom_);
  }
  return id;
}

std::optional<Arena::Block> Arena::take(uint64_t bytes, uint64_t owner, End end) {
  if (bytes > bytes_) return std::nullopt;
  const uint64_t wanted = std::max(rounded_up(bytes), kGranule);
  uint32_t id = find(wanted, end);
  uint32_t grown = kNone;
  if (id == kNone) grown = grow(wanted, end);
  if (id == kNone && grown == kNone) id = find_like(wanted, end, std::numeric_limits<int>::max());
  if (id != kNone) {
    remove(id);
    const uint32_t rest = split(id, wanted);
    if (rest != kNone) insert(rest);
  } else if (grown != kNone) {
    id = grown;
  } else {
    return std::nullopt;
  }
  const Block taken = block(id);
  Node& node = nodes_[id];
  node.free = false;
  node.content = owner;
  used_ += node.bytes;
  return taken;
}

Arena::Block Arena::block(uint32_t id) const {
  const Node& node = nodes_[id];
  return {.id = id, .offset = node.offset, .bytes = node.bytes, .content = node.content};
}

Arena::Block Arena::give_back(uint32_t id) {
  nodes_[id].free = true;
  used_ -= nodes_[id].bytes;
  return settle(id);
}

Arena::Block Arena::put_back(const Block& unwritten) {
  nodes_[unwritten.id].content = unwritten.content;
  return give_back(unwritten.id);
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
  return block(id);
}

std::optional<uint64_t> Arena::open(uint32_t id) {
  const bool low = nodes_[id].end == End::kLow;
  const uint32_t gap = low ? nodes_[id].before : nodes_[id].after;
  if (gap == kNone || !nodes_[gap].free) return std::nullopt;
  remove(gap);
  const uint64_t gap_bytes = nodes_[gap].bytes;
  const uint32_t beyond = low ? nodes_[gap].before : nodes_[gap].after;
  Node& node = nodes_[id];
  node.bytes += gap_bytes;
  if (low) {
    node.offset -= gap_bytes;
    node.before = beyond;
    if (beyond != kNone) nodes_[beyond].after = id;
  } else {
    node.after = beyond;
    if (beyond != kNone) nodes_[beyond].before = id;
  }
  used_ += gap_bytes;
  free_node(gap);
  return low ? node.offset : node.offset + gap_bytes;
}

void Arena::close(uint32_t id, uint64_t bytes) {
  const uint32_t rest = split(id, rounded_up(bytes));
  if (rest == kNone) return;
  nodes_[rest].content = kMixed;
  used_ -= nodes_[rest].bytes;
  settle(rest);
}

void Arena::set_limit(uint64_t bytes) {
  for (const End end : {End::kLow, End::kHigh}) {
    if (may_extend(end)) retreat(end);
  }
  if (side(End::kHigh).innermost != kNone) fold();
  limit_ = std::min(bytes, bytes_);
  high_bottom_ = limit_;
}

// One list of parts, of the low end: from here on the high end begins somewhere else.
void Arena::fold() {
  const uint32_t first = side(End::kHigh).innermost;
  if (low_top_ < high_bottom_) {
    const bool zeros = low_top_ >= clean_begin_ && high_bottom_ <= clean_end_;
    insert(append({.offset = low_top_,
                   .bytes = high_bottom_ - low_top_,
                   .content = zeros ? kZeros : kMixed,
                   .free = true}));
  }
  const uint32_t last = side(End::kLow).innermost;
  nodes_[first].before = last;
  if (last != kNone) nodes_[last].after = first;
  for (uint32_t id = first; id != kNone; id = nodes_[id].after) {
    if (nodes_[id].free) remove(id);
    nodes_[id].end = End::kLow;
    if (nodes_[id].free) insert(id);
    side(End::kLow).innermost = id;
    low_top_ = nodes_[id].offset + nodes_[id].bytes;
  }
  side(End::kHigh).innermost = kNone;
  clean_begin_ = std::max(clean_begin_, low_top_);
}

void Arena::for_each_free(uint64_t at_least, const std::function<void(const Block&)>& visit) const {
  std::vector<Block> found;  // `visit` may change the bins.
  for (const Side& side : sides_) {
    for (size_t bin = next_bin(side, bin_of(at_least)); bin != kBins;
         bin = next_bin(side, bin + 1)) {
      for (uint32_t id = side.bins[bin]; id != kNone; id = nodes_[id].next) {
        if (nodes_[id].bytes >= at_least && nodes_[id].content != kZeros)
          found.push_back(block(id));
      }
    }
  }
  for (const Block& part : found) {
    const Node& node = nodes_[part.id];
    if (node.free && node.offset == part.offset && node.bytes == part.bytes) visit(part);
  }
}

uint64_t Arena::largest_free(End end) const {
  const bool merge_low = merge_zeros_ && may_extend(End::kLow);
  const bool merge_high = merge_zeros_ && may_extend(End::kHigh);
  const Part middle = between(merge_low, merge_high);
  uint64_t largest = middle.end - middle.begin;
  for (size_t bin = kBins; bin-- > 0;) {
    if (side(end).bins[bin] == kNone) continue;
    for (uint32_t id = side(end).bins[bin]; id != kNone; id = nodes_[id].next) {
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

void Arena::free_node(uint32_t id) {
  nodes_[id] = {.next = spare_};
  spare_ = id;
}

void Arena::insert(uint32_t id) {
  Node& node = nodes_[id];
  Side& to = side(node.end);
  const size_t bin = bin_of(node.bytes);
  node.previous = kNone;
  node.next = to.bins[bin];
  if (node.next != kNone) nodes_[node.next].previous = id;
  to.bins[bin] = id;
  to.filled[bin / 64] |= uint64_t{1} << (bin % 64);
  if (node.content != kZeros) waiting_ += node.bytes;
}

void Arena::remove(uint32_t id) {
  const Node& node = nodes_[id];
  Side& from = side(node.end);
  const size_t bin = bin_of(node.bytes);
  if (node.previous != kNone) {
    nodes_[node.previous].next = node.next;
  } else {
    from.bins[bin] = node.next;
    if (node.next == kNone) from.filled[bin / 64] &= ~(uint64_t{1} << (bin % 64));
  }
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
  if (node.content != kZeros) waiting_ -= node.bytes;
}

uint32_t Arena::split(uint32_t id, uint64_t bytes) {
  if (nodes_[id].bytes == bytes) return kNone;
  const Node whole = nodes_[id];
  Node rest = whole;
  rest.bytes = whole.bytes - bytes;
  rest.free = true;
  const bool low = whole.end == End::kLow;
  (low ? rest.before : rest.after) = id;
  if (low) rest.offset = whole.offset + bytes;
  const uint32_t rest_id = new_node(rest);
  Node& kept = nodes_[id];
  kept.bytes = bytes;
  if (!low) kept.offset = whole.offset + rest.bytes;
  (low ? kept.after : kept.before) = rest_id;
  const uint32_t inward = low ? whole.after : whole.before;
  if (inward != kNone) (low ? nodes_[inward].before : nodes_[inward].after) = rest_id;
  if (side(whole.end).innermost == id) side(whole.end).innermost = rest_id;
  return rest_id;
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
  for (Side& side : sides_) {
    if (side.innermost == gone) side.innermost = id;
  }
  free_node(gone);
}

}  // namespace djinn::server
