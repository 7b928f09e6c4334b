// SPDX-License-Identifier: Apache-2.0
// Cells: what a session's storage ids stand for - bytes, or the error that explains their absence.
//
// Why a cell and not the storage itself: copy on write, resize and an upload over everything give a
// storage new bytes, and every view the client holds must follow; it names the cell.
// Threading: the replay's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

#include "serialization/base/result.h"
#include "server/memory/tiers.h"

namespace djinn::server {

using SharedError = std::shared_ptr<const Error>;

struct Cell {
  c10::Storage storage;  // Null: `bytes` zeros that nobody has asked for yet.
  TieredBufferPtr home;  // Not null: owns the bytes; `storage` is an alias while pinned.
  at::Tensor view;       // The tensor made last over it; spares making the next one.
  SharedError error;     // Not null: the bytes do not count.
  std::weak_ptr<const void> reader;  // An answer that is still being sent from these bytes.
  uint64_t bytes = 0;
  uint64_t job = 0;             // The run that has it bound.
  bool shared = false;          // Others may read these bytes: copy before writing.
  uint64_t content = 0;         // Shared: the number of the buffer whose bytes these are.
  bool counted_shared = false;  // What the table's totals know of it.
  uint64_t counted = 0;

  // Other bytes from here on.
  void replace(c10::Storage with) {
    view.reset();
    home.reset();
    storage = std::move(with);
    bytes = storage ? storage.nbytes() : 0;
    shared = false;
    content = 0;
    reader.reset();
  }
  void fail(SharedError why) {
    view.reset();
    home.reset();
    storage = c10::Storage();
    reader.reset();
    shared = false;
    content = 0;
    error = std::move(why);
  }
  // Bytes that live where the tiers put them.
  void replace(TieredBufferPtr with) {
    replace(c10::Storage());
    bytes = with->bytes();
    home = std::move(with);
  }
  void reset() {
    replace(c10::Storage());
    error.reset();
  }
};

// What two sessions that share a cell's bytes have in common, wherever the bytes are.
[[nodiscard]] inline const void* bytes_of(const Cell& cell) {
  return cell.home != nullptr ? static_cast<const void*>(cell.home.get()) : cell.storage.data();
}

struct StorageTotals {
  uint64_t storages = 0;
  uint64_t bytes = 0;
  uint64_t shared_bytes = 0;
};

// A session's cells by storage id. They keep their place in memory until they are erased.
class StorageTable {
 public:
  // Null: no such storage.
  [[nodiscard]] Cell* find(uint64_t id) {
    const auto found = cells_.find(id);
    return found == cells_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] size_t size() const { return cells_.size(); }
  // False: the id is in use.
  bool insert(uint64_t id, Cell cell) {
    const auto [place, made] = cells_.emplace(id, std::move(cell));
    if (made) count(place->second);
    return made;
  }
  void erase(uint64_t id) {
    const auto found = cells_.find(id);
    if (found == cells_.end()) return;
    uncount(found->second);
    cells_.erase(found);
  }
  // The cell's bytes may have changed.
  void recount(Cell& cell) {
    uncount(cell);
    count(cell);
  }
  template <typename Use>
  void for_each(const Use& use) const {
    for (const auto& [id, cell] : cells_) use(cell);
  }
  [[nodiscard]] const StorageTotals& totals() const { return totals_; }
  void shrink() { cells_.rehash(0); }

 private:
  void count(Cell& cell) {
    cell.counted = cell.error == nullptr ? cell.bytes : 0;
    cell.counted_shared = cell.shared;
    ++totals_.storages;
    totals_.bytes += cell.counted;
    if (cell.shared) totals_.shared_bytes += cell.counted;
  }
  void uncount(const Cell& cell) {
    --totals_.storages;
    totals_.bytes -= cell.counted;
    if (cell.counted_shared) totals_.shared_bytes -= cell.counted;
  }

  std::unordered_map<uint64_t, Cell> cells_;
  StorageTotals totals_;
};

}  // namespace djinn::server
