// SPDX-License-Identifier: Apache-2.0
// Plan cache: which plan lies in which of the server's slots, and the coder of its numbers.
//
// The client alone decides: it names the slot that a new plan overwrites (the one used longest
// ago), so both ends always agree on what is kept, without a question. Bounded by slots and by
// bytes. Threading: the session's turn.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>

#include "serialization/base/result.h"
#include "serialization/graph/numbers.h"
#include "serialization/graph/plan.h"

namespace djinn::client {

struct CachedPlan {
  std::shared_ptr<const graph::ByteString> structure;
  graph::NumbersCoder coder;
  uint16_t slot = 0;
  size_t bytes = 0;  // as the server counts them
};

class PlanCache {
 public:
  void set_capacity(uint16_t slots, uint64_t bytes);

  // The plan if the server has it, now the one used last; else null.
  CachedPlan* find(const graph::PlanHash& hash, graph::ByteSpan structure);

  // Puts a plan into a slot, over the plans that were used longest ago. kInvalid if the structure
  // is malformed (a defect of ours) or larger than the whole cache.
  Result<CachedPlan*> insert(std::shared_ptr<const graph::ByteString> structure);

  // The server has forgotten everything.
  void clear();

  [[nodiscard]] size_t size() const { return plans_.size(); }

 private:
  using Order = std::list<CachedPlan>;  // Used last in front.

  void evict();

  Order order_;
  std::unordered_map<graph::PlanHash, Order::iterator> plans_;
  std::vector<uint16_t> free_;
  uint16_t slots_ = 0;
  uint64_t bytes_max_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace djinn::client
