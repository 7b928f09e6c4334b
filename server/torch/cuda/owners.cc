// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cuda/owners.h"

#include <algorithm>
#include <iterator>

namespace djinn::server::cuda {

bool Owners::belongs(uintptr_t at, uintptr_t end, uint64_t owner) const {
  if (owner == kNobody) return false;
  auto range = free_.upper_bound(at);
  if (range == free_.begin()) return false;
  --range;
  while (at < end) {
    if (range == free_.end() || range->first > at || range->second.end <= at ||
        range->second.owner != owner) {
      return false;
    }
    at = range->second.end;
    ++range;
  }
  return true;
}

size_t Owners::take(uintptr_t at, size_t bytes, uint64_t owner, bool overwritten) {
  const size_t whole = (bytes + kGranule - 1) / kGranule * kGranule;
  const bool own = belongs(at, at + whole, owner);
  forget(at, whole);
  // What is overwritten ends somewhere in the last granule; the rest of that is not the owner's.
  const bool ends_inside = overwritten && !own;
  blocks_[at] = {.bytes = ends_inside ? bytes / kGranule * kGranule : whole, .owner = owner};
  return own || overwritten ? 0 : whole;
}

void Owners::give_back(uintptr_t at) {
  const auto found = blocks_.find(at);
  if (found == blocks_.end()) return;
  const auto [bytes, owner] = found->second;
  blocks_.erase(found);
  if (bytes == 0 || owner == kNobody) return;
  uintptr_t begin = at;
  uintptr_t end = at + bytes;
  // Neighbours of the same owner become one range, or the map would grow without bound.
  auto next = free_.lower_bound(begin);
  if (next != free_.end() && next->first == end && next->second.owner == owner) {
    end = next->second.end;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->second.end == begin && before->second.owner == owner) {
      begin = before->first;
      free_.erase(before);
    }
  }
  free_[begin] = {.end = end, .owner = owner};
}

void Owners::forget(uintptr_t at, size_t bytes) {
  const uintptr_t end = at + bytes;
  auto range = free_.upper_bound(at);
  if (range != free_.begin()) --range;
  while (range != free_.end() && range->first < end) {
    const uintptr_t range_begin = range->first;
    const Range old = range->second;
    if (old.end <= at) {
      ++range;
      continue;
    }
    range = free_.erase(range);
    if (range_begin < at) free_[range_begin] = {.end = at, .owner = old.owner};
    if (old.end > end) free_[end] = old;
  }
}

}  // namespace djinn::server::cuda
