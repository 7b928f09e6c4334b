// SPDX-License-Identifier: Apache-2.0
// PlanCache: one copy of each plan that sessions have in common.
//
// Why compared byte by byte: the hash that finds a plan is not collision-resistant, and one client
// must not be able to give another its plan.
// Ownership: sessions own plans together; the cache only remembers them. Threading: the I/O thread.
#pragma once

#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/executor.h"
#include "server/session/plan_knowledge.h"

namespace djinn::server {

class PlanCache {
 public:
  explicit PlanCache(Device& device) : device_(device) {}

  // A plan, and what was learnt of it in all sessions that have it.
  struct Known {
    std::shared_ptr<const graph::Plan> plan;
    std::shared_ptr<PlanKnowledge> knowledge;
  };
  // Reads the structure, and asks the device whether every operator may run, unless a session has
  // this very plan already.
  Result<Known> get(graph::ByteSpan structure);
  // Those that a session has, the most used first, kPlansShownMax at most.
  [[nodiscard]] std::vector<PlanReport> report() const;

  [[nodiscard]] size_t size() const { return plans_.size(); }

 private:
  struct Kept {
    Kept(graph::ByteSpan bytes, graph::Plan read)
        : structure(bytes.begin(), bytes.end()), plan(std::move(read)), knowledge(plan) {}
    const graph::ByteString structure;
    const graph::Plan plan;
    PlanKnowledge knowledge;
  };
  static Known share(const std::shared_ptr<Kept>& kept);
  void sweep();

  Device& device_;
  std::unordered_map<graph::PlanHash, std::weak_ptr<Kept>> plans_;
  size_t sweep_at_ = 64;
};

}  // namespace djinn::server
