// SPDX-License-Identifier: Apache-2.0
// Where the bytes of a run are: pinned on the device while an entry touches them, and what the plan
// says about when they are needed again.
#include <algorithm>

#include "serialization/base/limits.h"
#include "server/torch/problem.h"
#include "server/torch/run.h"

namespace djinn::server {

// A plan repeats, as far as anybody knows: what this one leaves is used again when the same comes.
uint64_t Run::next_use(const Touch& touch) const {
  if (touch.next != graph::kNone) return began_ + touch.next;
  const graph::SlotInfo& slot = plan_.slots[touch.slot];
  if (numbers_[slot.death] != 0) return kNeverUsed;
  const uint32_t first = slot.fresh ? 0 : program_.footprint->first_touch(touch.slot);
  return began_ + plan_.entries.size() + first;
}

void Run::expect_touches() {
  if (tiers_ == nullptr) return;
  if (program_.footprint == nullptr) program_.footprint = std::make_unique<Footprint>(plan_);
  began_ = tiers_->now();
  std::vector<Tiers::Use> uses;
  for (uint32_t i = 0; i < program_.slots.size(); ++i) {
    const uint32_t first = program_.footprint->first_touch(i);
    const Cell& cell = *program_.slots[i].cell;
    if (cell.home == nullptr || first == graph::kNone) continue;
    uses.push_back({.buffer = cell.home.get(), .next_use = began_ + first});
  }
  tiers_->expect(uses, program_.footprint->largest_new_bytes(plan_, numbers_));
}

std::vector<Tiers::Use> Run::rest_of_uses() const {
  std::vector<Tiers::Use> uses;
  std::vector<bool> seen(program_.slots.size());
  for (uint32_t i = next_; i < plan_.entries.size(); ++i) {
    for (const Touch& touch : program_.footprint->touches(i)) {
      const Cell& cell = *program_.slots[touch.slot].cell;
      if (seen[touch.slot] || cell.home == nullptr) continue;
      seen[touch.slot] = true;
      uses.push_back({.buffer = cell.home.get(), .next_use = began_ + i});
    }
  }
  return uses;
}

void Run::expect_rest() {
  if (tiers_ == nullptr) return;
  began_ = tiers_->now() - next_;
  tiers_->expect(rest_of_uses(), program_.footprint->largest_new_bytes(plan_, numbers_));
}

uint64_t Run::move_ns() const {
  if (tiers_ == nullptr) return 0;
  std::vector<const TieredBuffer*> buffers;
  for (const Tiers::Use& use : rest_of_uses()) buffers.push_back(use.buffer);
  return tiers_->load_ns(buffers);
}

void Run::pin(uint32_t entry) {
  if (tiers_ == nullptr) return;
  std::vector<TieredBuffer*> buffers;
  for (const Touch& touch : program_.footprint->touches(entry)) {
    const Cell& cell = this->cell(touch.slot);
    if (cell.home == nullptr) continue;
    buffers.push_back(cell.home.get());
  }
  // What has arrived lies on the host, and comes to the device when it is used.
  const bool arrives = plan_.entries[entry].kind == graph::EntryKind::kUpload &&
                       plan_.entries[entry].form != graph::UploadForm::kInline;
  const uint64_t made = arrives ? 0 : program_.footprint->new_bytes(plan_, numbers_, entry);
  if (buffers.empty() && made == 0) return;
  const auto pinned = tiers_->pin(buffers, made, session_.owner.account);
  if (!pinned) throw Problem(pinned.error().code, pinned.error().message);
  for (const Touch& touch : program_.footprint->touches(entry)) {
    Cell& cell = this->cell(touch.slot);
    if (cell.home == nullptr) continue;
    pinned_.push_back({cell.home, &cell});
    refresh(cell);
  }
}

void Run::expect_arrived(uint32_t entry) {
  for (const Touch& touch : program_.footprint->touches(entry)) {
    const Cell& cell = this->cell(touch.slot);
    if (cell.home != nullptr) tiers_->expect_use(*cell.home, next_use(touch));
  }
}

void Run::refresh(Cell& cell) {
  void* const memory = cell.home->device();
  if (cell.storage && cell.storage.data() == memory) return;
  cell.view.reset();
  cell.storage = session_.backend.alias(memory, cell.bytes);
}

void Run::repack(OpStep& step) {
  step.built = false;
  std::vector<TieredBuffer*> buffers;
  buffers.reserve(pinned_.size());
  for (const Pinned& pinned : pinned_) buffers.push_back(pinned.buffer.get());
  tiers_->pack_around(buffers);
  for (const Pinned& pinned : pinned_) refresh(*pinned.cell);
}

void Run::track(Cell& cell) {
  if (tiers_ == nullptr || cell.bytes < kTieredBytesMin) return;
  void* const memory = session_.backend.disown(cell.storage);
  if (memory == nullptr) return;
  cell.home = tiers_->adopt(memory, cell.bytes, session_.owner);
  pinned_.push_back({cell.home, &cell});
}

void Run::unpin(uint32_t entry) {
  if (tiers_ == nullptr) return;
  const graph::EntryKind kind = plan_.entries[entry].kind;
  const bool rewrites = kind == graph::EntryKind::kUpload || kind == graph::EntryKind::kResize;
  std::vector<Tiers::Use> uses;
  uses.reserve(pinned_.size());
  for (const Pinned& pinned : pinned_) {
    Tiers::Use& use = uses.emplace_back();
    use.buffer = pinned.buffer.get();
    if (pinned.cell->home != pinned.buffer) continue;  // It has other bytes now.
    for (const Touch& touch : program_.footprint->touches(entry)) {
      if (program_.slots[touch.slot].cell != pinned.cell) continue;
      const auto writes = program_.of(program_.writes, program_.steps[entry].writes);
      use.next_use = next_use(touch);
      use.written = rewrites || touch.made || std::ranges::find(writes, touch.slot) != writes.end();
    }
  }
  tiers_->unpin(uses);
  pinned_.clear();
}

}  // namespace djinn::server
