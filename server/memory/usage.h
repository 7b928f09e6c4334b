// SPDX-License-Identifier: Apache-2.0
// Usage: what the memories of a device have, and what moved between them, in figures.
//
// Why alone: whoever shows them (the admin pages) knows them without the memories.
// Threading: plain values.
#pragma once

#include <cstdint>

namespace djinn::server {

// What a memory has, in bytes.
struct MemoryUsage {
  uint64_t budget = 0;  // 0: no limit
  uint64_t used = 0;
  uint64_t peak = 0;
  uint64_t largest_free = 0;
};

// Since the server's start.
struct TierStats {
  uint64_t spills = 0;  // copied to the host
  uint64_t spilled_bytes = 0;
  uint64_t drops = 0;  // left the device without a copy
  uint64_t loads = 0;  // copied to the device because an operator waited
  uint64_t loaded_bytes = 0;
  uint64_t prefetches = 0;  // copied to the device before
  uint64_t prefetched_bytes = 0;
  uint64_t useful = 0;    // of these, used then
  uint64_t late = 0;      // waited for while a copy was under way, in or out
  uint64_t wasted = 0;    // left or died unused
  uint64_t packs = 0;     // what lies on the device moved together to make a long free part
  uint64_t retries = 0;   // an operator that found no room ran again in packed memory
  uint64_t refusals = 0;  // nothing could leave
};

// A device and the host memory behind it.
struct TierReport {
  bool tiered = false;  // False: nothing can leave the device, and all but `device` is zero.
  MemoryUsage device;
  MemoryUsage host;
  TierStats moved;
};

}  // namespace djinn::server
