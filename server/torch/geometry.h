// SPDX-License-Identifier: Apache-2.0
// Geometry: an operand's sizes, strides and offset, taken from the numbers and checked.
//
// Nothing in the numbers is trusted: a size may be negative and a product may overflow. What passes
// here addresses only bytes inside the storage.
// Ownership: sizes (and strides, if the plan has them) point into the numbers. Threading: values.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include <c10/util/ArrayRef.h>

#include "serialization/base/limits.h"
#include "serialization/graph/plan.h"

namespace djinn::server {

struct Geometry {
  c10::IntArrayRef sizes;
  c10::IntArrayRef strides;
  int64_t offset = 0;
  int64_t elements = 0;
  uint64_t extent_bytes = 0;  // From the storage's first byte to the end of the last element.
  bool contiguous = false;    // by the plan: row-major without gaps, size-1 dimensions included
  std::array<int64_t, kRankMax> own_strides;  // behind `strides` if the plan has none

  Geometry() {}  // NOLINT: own_strides stays uninitialised, it is only written when used
  Geometry(const Geometry&) = delete;
  Geometry& operator=(const Geometry&) = delete;
};

// Null if the geometry is sound, else what is wrong with it.
[[nodiscard]] const char* resolve(const graph::Operand& operand, std::span<const int64_t> numbers,
                                  Geometry& out);

}  // namespace djinn::server
