// SPDX-License-Identifier: Apache-2.0
// Footprint: which storages each entry of a plan touches, and when each is touched again.
//
// Made once per plan; with the numbers of a job it says how many new bytes an entry makes, so what
// a job will need is known before it begins. Threading: immutable.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "serialization/graph/plan.h"

namespace djinn::server {

struct Touch {
  uint32_t slot = 0;
  bool made = false;             // It is, or lies under, a result of the entry.
  uint32_t next = graph::kNone;  // the entry that touches it next; kNone: none in this plan
};

class Footprint {
 public:
  explicit Footprint(const graph::Plan& plan);

  // Each slot once.
  [[nodiscard]] std::span<const Touch> touches(uint32_t entry) const {
    return std::span(touches_).subspan(begins_[entry], begins_[entry + 1] - begins_[entry]);
  }
  // kNone: no entry touches it.
  [[nodiscard]] uint32_t first_touch(uint32_t slot) const { return first_[slot]; }
  // The bytes of the new storages that an entry makes, by a job's numbers, and the most that one
  // makes.
  [[nodiscard]] uint64_t new_bytes(const graph::Plan& plan, std::span<const int64_t> numbers,
                                   uint32_t entry) const;
  [[nodiscard]] uint64_t largest_new_bytes(const graph::Plan& plan,
                                           std::span<const int64_t> numbers) const;

 private:
  std::vector<Touch> touches_;
  std::vector<uint32_t> begins_;  // per entry, and the end
  std::vector<uint32_t> first_;   // per slot
};

}  // namespace djinn::server
