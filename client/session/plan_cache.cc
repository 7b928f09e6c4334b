// SPDX-License-Identifier: Apache-2.0
#include "client/session/plan_cache.h"

#include <algorithm>

#include "serialization/graph/plan_reader.h"

namespace djinn::client {

void PlanCache::set_capacity(uint16_t slots, uint64_t bytes) {
  slots_ = slots;
  bytes_max_ = bytes;
  clear();
}

void PlanCache::clear() {
  order_.clear();
  plans_.clear();
  bytes_ = 0;
  free_.clear();
  for (uint16_t slot = slots_; slot-- > 0;) free_.push_back(slot);
}

CachedPlan* PlanCache::find(const graph::PlanHash& hash, graph::ByteSpan structure) {
  const auto found = plans_.find(hash);
  if (found == plans_.end()) return nullptr;
  // Two structures with one hash: improbable, and still never the wrong plan.
  if (found->second->structure->size() != structure.size()) return nullptr;
  order_.splice(order_.begin(), order_, found->second);
  return &order_.front();
}

Result<CachedPlan*> PlanCache::insert(std::shared_ptr<const graph::ByteString> structure) {
  DJINN_TRY(auto plan, graph::read_plan(*structure));
  const size_t bytes = 16 * plan.kinds.size() + structure->size();
  if (bytes > bytes_max_) {
    return Error{ErrorCode::kInvalid, "a plan of " + std::to_string(bytes) +
                                          " bytes does not fit the server's plan cache of " +
                                          std::to_string(bytes_max_)};
  }
  if (plans_.contains(plan.hash)) {
    const auto same = plans_.find(plan.hash)->second;
    free_.push_back(same->slot);
    bytes_ -= same->bytes;
    order_.erase(same);
    plans_.erase(plan.hash);
  }
  while (free_.empty() || bytes_ + bytes > bytes_max_) evict();
  const uint16_t slot = free_.back();
  free_.pop_back();
  bytes_ += bytes;
  const auto hash = plan.hash;
  order_.push_front({.structure = std::move(structure),
                     .coder = graph::NumbersCoder(std::make_shared<graph::Plan>(std::move(plan))),
                     .slot = slot,
                     .bytes = bytes});
  plans_[hash] = order_.begin();
  return &order_.front();
}

void PlanCache::evict() {
  CachedPlan& oldest = order_.back();
  bytes_ -= oldest.bytes;
  free_.push_back(oldest.slot);
  plans_.erase(oldest.coder.plan().hash);
  order_.pop_back();
}

}  // namespace djinn::client
