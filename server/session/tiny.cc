// SPDX-License-Identifier: Apache-2.0
#include "server/session/tiny.h"

#include <algorithm>

#include "server/session/plan_facts.h"

namespace djinn::server {

bool is_tiny(const graph::Plan& plan, uint64_t elements, uint64_t last_ns, uint64_t last_elements) {
  if (plan.operands.size() > kTinyOperandsMax || elements >= kManyElements) return false;
  if (last_ns != UINT64_MAX) {
    return last_ns < kTinyRunNs && elements <= std::max(2 * last_elements, kTinyElements / 16);
  }
  return elements <= kTinyElements &&
         std::all_of(plan.entries.begin(), plan.entries.end(),
                     [](const graph::Entry& e) { return e.kind == graph::EntryKind::kFetch; });
}

}  // namespace djinn::server
