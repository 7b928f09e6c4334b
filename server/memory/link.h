// SPDX-License-Identifier: Apache-2.0
// Link: what copies between the tiers, and how fast.
//
// Copies go past the caches, as a copy engine's do (docs/decisions/0002). A rate is for benchmarks:
// it stands for the slower link of a machine that is not there.
// Ownership: nothing. Threading: any thread; those that copy at the same time share the rate.
#pragma once

#include <cstdint>

#include "serialization/base/mutex.h"

namespace djinn::server {

class Link {
 public:
  explicit Link(uint64_t bytes_per_second = 0) : rate_(bytes_per_second) {}
  void copy(void* to, const void* from, uint64_t bytes);

 private:
  const uint64_t rate_;  // 0: as fast as it goes
  Mutex mutex_;
  uint64_t free_at_ns_ GUARDED_BY(mutex_) = 0;
};

}  // namespace djinn::server
