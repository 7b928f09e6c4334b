// SPDX-License-Identifier: Apache-2.0
#include "serialization/graph/plan.h"

#include <xxhash.h>

#include <array>

namespace djinn::graph {

PlanHash hash_structure(ByteSpan structure) {
  const XXH128_hash_t hash = XXH3_128bits(structure.data(), structure.size());
  return {.high = hash.high64, .low = hash.low64};
}

uint32_t dtype_bytes(Dtype dtype) {
  static constexpr std::array<uint8_t, kDtypeMax + 1> kBytes{1, 1,  2, 4, 8, 2, 4, 8, 4,
                                                             8, 16, 1, 2, 2, 4, 8, 1, 1};
  return kBytes[static_cast<uint8_t>(dtype)];
}

bool is_complex(Dtype dtype) { return dtype >= Dtype::kComplex32 && dtype <= Dtype::kComplex128; }

bool is_floating(Dtype dtype) {
  return (dtype >= Dtype::kFloat16 && dtype <= Dtype::kFloat64) || dtype == Dtype::kBfloat16 ||
         dtype == Dtype::kFloat8E5m2 || dtype == Dtype::kFloat8E4m3fn;
}

size_t Plan::bytes() const {
  size_t total = sizeof(Plan);
  for (const auto& text : ops) total += sizeof(std::string) + text.capacity();
  for (const auto& text : strings) total += sizeof(std::string) + text.capacity();
  return total + entries.capacity() * sizeof(Entry) + args.capacity() * sizeof(Arg) +
         results.capacity() * sizeof(ResultSlot) + operands.capacity() * sizeof(Operand) +
         slots.capacity() * sizeof(SlotInfo) + strays.capacity() * sizeof(uint32_t) +
         kinds.capacity();
}

}  // namespace djinn::graph
