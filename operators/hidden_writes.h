// SPDX-License-Identifier: Apache-2.0
// Hidden writes: operators that write an argument although their schema calls it read-only.
//
// Why it matters: bytes that several tenants share are copied before an operator writes them, and
// the schema is where that is read from. This table is what the schemas do not say. A test runs
// every allowed operator on read-only pages to find what is missing here.
// Threading: immutable.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace djinn::operators {

struct HiddenWrites {
  std::string_view name;   // with overload
  int32_t only_if = -1;    // Written only if this bool argument is true. -1: always.
  uint32_t arguments = 0;  // Bit i: argument i is written.
};

// Null: the schema tells the truth.
[[nodiscard]] const HiddenWrites* find_hidden_writes(std::string_view name);
[[nodiscard]] std::span<const HiddenWrites> all_hidden_writes();

}  // namespace djinn::operators
