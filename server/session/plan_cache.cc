// SPDX-License-Identifier: Apache-2.0
#include "server/session/plan_cache.h"

#include <algorithm>

#include "serialization/graph/plan_reader.h"

namespace djinn::server {

Result<std::shared_ptr<const graph::Plan>> PlanCache::get(graph::ByteSpan structure) {
  const graph::PlanHash hash = graph::hash_structure(structure);
  if (const auto at = plans_.find(hash); at != plans_.end()) {
    const auto kept = at->second.lock();
    if (kept != nullptr && std::ranges::equal(kept->structure, structure)) {
      return std::shared_ptr<const graph::Plan>(kept, &kept->plan);
    }
  }
  DJINN_TRY(graph::Plan plan, graph::read_plan(structure));
  DJINN_TRY([[maybe_unused]] const Unit admitted, device_.admit(plan));
  const auto kept = std::make_shared<const Kept>(
      Kept{.structure = {structure.begin(), structure.end()}, .plan = std::move(plan)});
  // Of two plans with one hash the first stays; the other is its session's alone.
  auto& place = plans_[hash];
  if (place.expired()) place = kept;
  if (plans_.size() >= sweep_at_) sweep();
  return std::shared_ptr<const graph::Plan>(kept, &kept->plan);
}

void PlanCache::sweep() {
  std::erase_if(plans_, [](const auto& entry) { return entry.second.expired(); });
  sweep_at_ = std::max<size_t>(64, 2 * plans_.size());
}

}  // namespace djinn::server
