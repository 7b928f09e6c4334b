// SPDX-License-Identifier: Apache-2.0
// Heap: who has the lowest key, among things that know where they stand.
//
// Why not std::priority_queue: a candidate leaves or changes its key while it waits, and that must
// cost O(log n) and no allocation; hence each thing carries its own place.
// Ownership: borrows what is in it; a thing is in one Heap at a time. Threading: plain value.
#pragma once

#include <cassert>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace djinn::sched {

// Compared from the first to the last; the lowest comes first.
struct Key {
  uint64_t first = 0;
  uint64_t second = 0;
  uint64_t third = 0;
  uint64_t last = 0;
  auto operator<=>(const Key&) const = default;  // NOLINT(modernize-use-nullptr): its own 0
};

// What can be in a Heap.
struct Ranked {
  static constexpr size_t kNowhere = SIZE_MAX;
  Key key;
  size_t at = kNowhere;  // The Heap's.
};

template <typename T>  // a Ranked
class Heap {
 public:
  [[nodiscard]] bool empty() const { return items_.empty(); }
  [[nodiscard]] size_t size() const { return items_.size(); }
  // The lowest, or null.
  [[nodiscard]] T* top() const { return items_.empty() ? nullptr : items_.front(); }

  // Brings it to where its key says, whether it was in or not. Allocates only beyond the most that
  // were ever in.
  void put(T& item) {
    if (item.at == Ranked::kNowhere) {
      item.at = items_.size();
      items_.push_back(&item);
    }
    sink(rise(item.at));
  }

  void drop(T& item) {
    assert(items_[item.at] == &item);
    const size_t at = item.at;
    T* const last = items_.back();
    items_.pop_back();
    item.at = Ranked::kNowhere;
    if (last == &item) return;
    place(at, last);
    sink(rise(at));
  }

 private:
  void place(size_t at, T* item) {
    items_[at] = item;
    item->at = at;
  }

  size_t rise(size_t at) {
    T* const item = items_[at];
    while (at > 0) {
      const size_t above = (at - 1) / 2;
      if (items_[above]->key <= item->key) break;
      place(at, items_[above]);
      at = above;
    }
    place(at, item);
    return at;
  }

  void sink(size_t at) {
    T* const item = items_[at];
    while (true) {
      size_t below = 2 * at + 1;
      if (below >= items_.size()) break;
      if (below + 1 < items_.size() && items_[below + 1]->key < items_[below]->key) ++below;
      if (item->key <= items_[below]->key) break;
      place(at, items_[below]);
      at = below;
    }
    place(at, item);
  }

  std::vector<T*> items_;
};

}  // namespace djinn::sched
