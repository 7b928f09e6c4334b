// SPDX-License-Identifier: Apache-2.0
#include "server/memory/footprint.h"

#include <algorithm>

namespace djinn::server {
namespace {

using graph::kNone;

// Calls `touch` for every slot of an argument or a result, some of them more than once.
template <typename Touch>
void walk_arg(const graph::Plan& plan, const graph::Arg& arg, const Touch& touch) {
  if (arg.kind == graph::ArgKind::kTensor) touch(plan.operands[arg.first].slot, false);
  if (arg.kind != graph::ArgKind::kList) return;
  for (uint32_t i = 0; i < arg.count; ++i) walk_arg(plan, plan.args[arg.first + i], touch);
}

template <typename Touch>
void walk_result(const graph::Plan& plan, const graph::ResultSlot& result, const Touch& touch) {
  if (result.kind == graph::ResultKind::kTensor) touch(plan.operands[result.first].slot, true);
  if (result.kind == graph::ResultKind::kDeferred) touch(result.first, true);
  if (result.kind != graph::ResultKind::kList) return;
  for (uint32_t i = 0; i < result.count; ++i) {
    walk_result(plan, plan.results[result.first + i], touch);
  }
}

template <typename Touch>
void walk_entry(const graph::Plan& plan, const graph::Entry& entry, const Touch& touch) {
  switch (entry.kind) {
    case graph::EntryKind::kOp:
    case graph::EntryKind::kDeferredOp:
      for (uint32_t i = 0; i < entry.arg_count; ++i) {
        walk_arg(plan, plan.args[entry.first_arg + i], touch);
      }
      for (uint32_t i = 0; i < entry.result_count; ++i) {
        walk_result(plan, plan.results[entry.first_result + i], touch);
      }
      return;
    case graph::EntryKind::kUpload:
    case graph::EntryKind::kFetch:
      touch(plan.operands[entry.operand].slot, false);
      return;
    case graph::EntryKind::kResize:
      touch(entry.operand, false);
      return;
    case graph::EntryKind::kSeed:
      return;
  }
}

}  // namespace

Footprint::Footprint(const graph::Plan& plan) : first_(plan.slots.size(), kNone) {
  std::vector<size_t> last(plan.slots.size(), SIZE_MAX);  // where the slot's last touch lies
  begins_.reserve(plan.entries.size() + 1);
  for (uint32_t i = 0; i < plan.entries.size(); ++i) {
    begins_.push_back(static_cast<uint32_t>(touches_.size()));
    walk_entry(plan, plan.entries[i], [&](uint32_t slot, bool made) {
      if (slot == kNone) return;
      if (last[slot] != SIZE_MAX && last[slot] >= begins_.back()) {
        touches_[last[slot]].made |= made;
        return;
      }
      if (last[slot] == SIZE_MAX) {
        first_[slot] = i;
      } else {
        touches_[last[slot]].next = i;
      }
      last[slot] = touches_.size();
      touches_.push_back({.slot = slot, .made = made});
    });
  }
  begins_.push_back(static_cast<uint32_t>(touches_.size()));
}

uint64_t Footprint::new_bytes(const graph::Plan& plan, std::span<const int64_t> numbers,
                              uint32_t entry) const {
  uint64_t bytes = 0;
  for (const Touch& touch : touches(entry)) {
    const graph::SlotInfo& slot = plan.slots[touch.slot];
    if (!slot.fresh || slot.deferred || first_[touch.slot] != entry) continue;
    bytes += static_cast<uint64_t>(std::max<int64_t>(numbers[slot.bytes], 0));
  }
  return bytes;
}

uint64_t Footprint::largest_new_bytes(const graph::Plan& plan,
                                      std::span<const int64_t> numbers) const {
  uint64_t largest = 0;
  for (uint32_t i = 0; i + 1 < begins_.size(); ++i) {
    largest = std::max(largest, new_bytes(plan, numbers, i));
  }
  return largest;
}

}  // namespace djinn::server
