// SPDX-License-Identifier: Apache-2.0
// Rate limits: what a tenant may use per second, whatever the server has to spare.
//
// Device time is what was measured; of jobs that are under way, what they are expected to take yet
// counts already, so that a queue of them is no way around the limit.
// Threading: plain values.
#pragma once

#include <cstdint>

#include "server/session/token_bucket.h"

namespace djinn::server {

// Per second, as much at once; 0: no limit.
struct Rates {
  uint64_t device_ns = 0;
  uint64_t bytes = 0;   // that it sends with jobs and uploads, and that it fetches
  double requests = 0;  // jobs

  bool operator==(const Rates&) const = default;
};

class RateLimits {
 public:
  enum class Of : uint8_t { kDeviceTime, kBytes, kRequests };
  struct Wait {
    uint64_t ns = 0;  // 0: the next job may come.
    Of of = Of::kRequests;
  };
  // Device time of a tenant.
  struct Use {
    uint64_t used_ns = 0;   // since the server's start
    uint64_t begun_ns = 0;  // of this, by jobs that have not ended
  };

  void set(const Rates& rates, uint64_t now_ns);
  [[nodiscard]] bool limits_device_time() const { return device_time_.limits(); }

  // What it has used by now; what was used before the first call behind `set` is free.
  void note(const Use& use, uint64_t now_ns);
  void take_request(uint64_t now_ns) { requests_.take(1, now_ns); }
  void take_bytes(uint64_t bytes, uint64_t now_ns);
  // Until one more job may come, and which limit says so; `expected_ns`: of all its jobs that were
  // let in and have not ended.
  [[nodiscard]] Wait wait(uint64_t expected_ns, uint64_t now_ns) const;

 private:
  TokenBucket device_time_;  // nanoseconds
  TokenBucket bytes_;
  TokenBucket requests_;
  Use use_;
  bool use_known_ = false;
};

}  // namespace djinn::server
