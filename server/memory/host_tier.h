// SPDX-License-Identifier: Apache-2.0
// Host tier: memory of this process for what leaves the device.
// Threading: any thread.
#pragma once

#include "server/memory/mapped_memory.h"
#include "server/memory/tiers.h"

namespace djinn::server {

class HostTier final : public TierMemory {
 public:
  // 0: no limit.
  void set_budget(uint64_t bytes) { memory_.set_budget(bytes); }
  void* allocate(uint64_t bytes, const Owner& owner) override {
    return memory_.take(bytes, owner).memory;
  }
  void release(void* memory) override { memory_.release(memory); }
  [[nodiscard]] MemoryUsage usage() const override { return memory_.usage(); }

 private:
  MappedMemory memory_{Tier::kHost};
};

}  // namespace djinn::server
