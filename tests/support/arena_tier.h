// SPDX-License-Identifier: Apache-2.0
// Arena tier: an arena with a budget, whose large blocks may move and whose small ones never do.
// Threading: any thread.
#pragma once

#include "server/memory/mapped_memory.h"
#include "server/memory/tiers.h"

namespace djinn::testing {

class ArenaTier final : public server::TierMemory {
 public:
  explicit ArenaTier(uint64_t budget) { memory_.set_budget(budget); }
  void* allocate(uint64_t bytes, const server::Owner& owner) override {
    return memory_.take(bytes, owner).memory;
  }
  void* small(uint64_t bytes) { return memory_.take(bytes, {}, server::Arena::End::kHigh).memory; }
  void release(void* memory) override { memory_.release(memory); }
  void* slide(void* memory) override { return memory_.slide(memory); }
  bool promise(uint64_t bytes) override { return memory_.promise(bytes); }
  void end_promise() override { memory_.end_promise(); }
  [[nodiscard]] server::MemoryUsage usage() const override { return memory_.usage(); }

 private:
  server::MappedMemory memory_{server::Tier::kDevice};
};

}  // namespace djinn::testing
