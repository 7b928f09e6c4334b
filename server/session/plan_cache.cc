// SPDX-License-Identifier: Apache-2.0
#include "server/session/plan_cache.h"

#include <algorithm>
#include <functional>

#include "serialization/base/limits.h"
#include "serialization/graph/plan_reader.h"

namespace djinn::server {

PlanCache::Known PlanCache::share(const std::shared_ptr<Kept>& kept) {
  return {.plan = {kept, &kept->plan}, .knowledge = {kept, &kept->knowledge}};
}

Result<PlanCache::Known> PlanCache::get(graph::ByteSpan structure) {
  const graph::PlanHash hash = graph::hash_structure(structure);
  if (const auto at = plans_.find(hash); at != plans_.end()) {
    const auto kept = at->second.lock();
    if (kept != nullptr && std::ranges::equal(kept->structure, structure)) {
      return share(kept);
    }
  }
  DJINN_TRY(graph::Plan plan, graph::read_plan(structure));
  DJINN_TRY([[maybe_unused]] const Unit admitted, device_.admit(plan));
  const auto kept = std::make_shared<Kept>(structure, std::move(plan));
  // Of two plans with one hash the first stays; the other is its session's alone.
  auto& place = plans_[hash];
  if (place.expired()) place = kept;
  if (plans_.size() >= sweep_at_) sweep();
  return share(kept);
}

std::vector<PlanReport> PlanCache::report() const {
  std::vector<PlanReport> out;
  for (const auto& [hash, weak] : plans_) {
    if (const auto kept = weak.lock()) out.push_back(kept->knowledge.report());
  }
  std::ranges::sort(out, std::greater{}, &PlanReport::used_ns);
  if (out.size() > kPlansShownMax) out.resize(kPlansShownMax);
  return out;
}

void PlanCache::sweep() {
  std::erase_if(plans_, [](const auto& entry) { return entry.second.expired(); });
  sweep_at_ = std::max<size_t>(64, 2 * plans_.size());
}

}  // namespace djinn::server
