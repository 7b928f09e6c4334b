// SPDX-License-Identifier: Apache-2.0
#include "serialization/graph/plan_writer.h"

#include <algorithm>
#include <atomic>
#include <cassert>

#include "serialization/base/limits.h"

namespace djinn::graph {
namespace {

// Epochs are unique in the process, so that a StorageRecord may serve several writers in turn.
uint32_t next_epoch() {
  static std::atomic<uint32_t> last{0};
  uint32_t epoch = ++last;
  while (epoch == 0) epoch = ++last;  // 0 means "in no flush"
  return epoch;
}

}  // namespace

uint32_t new_op_number() {
  static std::atomic<uint32_t> count{0};
  return count.fetch_add(1, std::memory_order_relaxed);
}

void PlanWriter::begin(uint64_t base, uint64_t upload) {
  structure_.clear();
  numbers_.clear();
  slots_.clear();
  names_.clear();
  epoch_ = next_epoch();
  entries_ = 0;
  answers_ = 0;
  u8(kStructureVersion);
  number(static_cast<int64_t>(base));
  number(static_cast<int64_t>(upload));
}

void PlanWriter::text(std::string_view text) {
  u8('s');
  varint(text.size());
  std::memcpy(structure_.room(text.size()), text.data(), text.size());
  structure_.advance(text.size());
}

void PlanWriter::operand(StorageRecord& storage, Dtype dtype, std::span<const int64_t> sizes,
                         std::span<const int64_t> strides, int64_t offset) {
  assert(sizes.size() == strides.size() && sizes.size() < kRankMax);
  slot(storage);
  const size_t rank = sizes.size();
  bool contiguous = true;
  uint64_t expected = 1;  // An empty tensor may have sizes whose product is no number: it wraps.
  for (size_t d = rank; d-- > 0;) {
    contiguous &= static_cast<uint64_t>(strides[d]) == expected;
    expected *= static_cast<uint64_t>(std::max<int64_t>(sizes[d], 1));
  }
  u8(static_cast<uint8_t>(dtype));
  u8(static_cast<uint8_t>(rank | (contiguous ? 64U : 0U) | (offset == 0 ? 128U : 0U)));
  int64_t* out = numbers_.room(2 * rank + 1);
  size_t count = rank;
  for (size_t d = 0; d < rank; ++d) out[d] = sizes[d];
  if (!contiguous) {
    for (size_t d = 0; d < rank; ++d) out[rank + d] = strides[d];
    count += rank;
  }
  if (offset != 0) out[count++] = offset;
  numbers_.advance(count);
}

void PlanWriter::introduce(const OpName& name) {
  if (name.number >= places_.size()) places_.resize(name.number + size_t{1});
  places_[name.number] = {.epoch = epoch_, .index = static_cast<uint32_t>(names_.size())};
  names_.push_back(&name);
}

void PlanWriter::introduce(StorageRecord& storage, bool deferred) {
  storage.epoch = epoch_;
  storage.slot = static_cast<uint32_t>(slots_.size());
  slots_.push_back({.storage = &storage, .death = 0});
  varint(storage.slot);
  u8(storage.known ? '<' : '+');
  number(static_cast<int64_t>(storage.id));
  if (!storage.known && !deferred) number(static_cast<int64_t>(storage.bytes));
}

void PlanWriter::abandon_entry() {
  structure_.truncate(begun_.structure);
  numbers_.truncate(begun_.numbers);
  for (size_t i = begun_.slots; i < slots_.size(); ++i) {
    if (slots_[i].storage != nullptr) slots_[i].storage->epoch = 0;
  }
  slots_.resize(begun_.slots);
  for (size_t i = begun_.names; i < names_.size(); ++i) places_[names_[i]->number].epoch = 0;
  names_.resize(begun_.names);
  entries_ = begun_.entries;
  answers_ = begun_.answers;
}

void PlanWriter::forget(StorageRecord& storage) {
  if (storage.epoch == epoch_) {
    Slot& slot = slots_[storage.slot];
    slot.storage = nullptr;
    slot.death = std::max(entries_, 1U);
  } else if (storage.known) {
    strays_.push_back(static_cast<int64_t>(storage.id));
  }
}

Flush PlanWriter::finish() {
  u8('E');
  varint(strays_.size());
  for (const int64_t id : strays_) number(id);
  strays_.clear();
  varint(names_.size());
  for (const OpName* name : names_) {
    varint(name->name.size());
    std::memcpy(structure_.room(name->name.size()), name->name.data(), name->name.size());
    structure_.advance(name->name.size());
  }
  for (const Slot& slot : slots_) {
    number(slot.death);
    if (slot.storage != nullptr) slot.storage->known = true;
  }
  slots_.clear();  // The records may die from here on without telling this flush.
  epoch_ = next_epoch();
  return {.hash = hash_structure(structure_.span()),
          .structure = structure_.span(),
          .numbers = numbers_.span(),
          .entries = entries_,
          .answers = answers_};
}

}  // namespace djinn::graph
