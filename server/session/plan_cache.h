// SPDX-License-Identifier: Apache-2.0
// PlanCache: one copy of each plan that sessions have in common.
//
// Why compared byte by byte: the hash that finds a plan is not collision-resistant, and one client
// must not be able to give another its plan.
// Ownership: sessions own plans together; the cache only remembers them. Threading: the I/O thread.
#pragma once

#include <memory>
#include <unordered_map>

#include "server/executor.h"

namespace djinn::server {

class PlanCache {
 public:
  explicit PlanCache(Device& device) : device_(device) {}

  // Reads the structure, and asks the device whether every operator may run, unless a session has
  // this very plan already.
  Result<std::shared_ptr<const graph::Plan>> get(graph::ByteSpan structure);

  [[nodiscard]] size_t size() const { return plans_.size(); }

 private:
  struct Kept {
    graph::ByteString structure;
    graph::Plan plan;
  };
  void sweep();

  Device& device_;
  std::unordered_map<graph::PlanHash, std::weak_ptr<const Kept>> plans_;
  size_t sweep_at_ = 64;
};

}  // namespace djinn::server
