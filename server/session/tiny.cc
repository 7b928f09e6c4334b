// SPDX-License-Identifier: Apache-2.0
#include "server/session/tiny.h"

#include <algorithm>

namespace djinn::server {

uint64_t spanned_elements(const graph::Plan& plan, std::span<const int64_t> numbers) {
  if (plan.operands.size() > kTinyOperandsMax) return UINT64_MAX;
  uint64_t total = 0;
  for (const graph::Operand& operand : plan.operands) {
    if (operand.slot == graph::kNone) continue;
    uint64_t elements = 1;
    for (const int64_t size : numbers.subspan(operand.sizes, operand.rank)) {
      if (size < 0 || __builtin_mul_overflow(elements, static_cast<uint64_t>(size), &elements)) {
        return UINT64_MAX;
      }
    }
    if (__builtin_add_overflow(total, elements, &total)) return UINT64_MAX;
  }
  return total;
}

bool is_tiny(const graph::Plan& plan, uint64_t elements, uint64_t last_ns, uint64_t last_elements) {
  if (elements == UINT64_MAX) return false;
  if (last_ns != UINT64_MAX) {
    return last_ns < kTinyRunNs && elements <= std::max(2 * last_elements, kTinyElements / 16);
  }
  return elements <= kTinyElements &&
         std::all_of(plan.entries.begin(), plan.entries.end(),
                     [](const graph::Entry& e) { return e.kind == graph::EntryKind::kFetch; });
}

}  // namespace djinn::server
