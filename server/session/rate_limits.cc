// SPDX-License-Identifier: Apache-2.0
#include "server/session/rate_limits.h"

#include <algorithm>

namespace djinn::server {

void RateLimits::set(const Rates& rates, uint64_t now_ns) {
  if (!device_time_.limits()) use_known_ = false;
  device_time_.set_rate(static_cast<double>(rates.device_ns), now_ns);
  bytes_.set_rate(static_cast<double>(rates.bytes), now_ns);
  requests_.set_rate(rates.requests, now_ns);
}

void RateLimits::note(const Use& use, uint64_t now_ns) {
  if (use_known_) device_time_.take(static_cast<double>(use.used_ns - use_.used_ns), now_ns);
  use_ = use;
  use_known_ = true;
}

void RateLimits::take_bytes(uint64_t bytes, uint64_t now_ns) {
  bytes_.take(static_cast<double>(bytes), now_ns);
}

RateLimits::Wait RateLimits::wait(uint64_t expected_ns, uint64_t now_ns) const {
  const uint64_t pending_ns = expected_ns - std::min(expected_ns, use_.begun_ns);
  const Wait all[] = {
      {.ns = device_time_.wait_ns(static_cast<double>(pending_ns) + 1, now_ns),
       .of = Of::kDeviceTime},
      {.ns = bytes_.wait_ns(1, now_ns), .of = Of::kBytes},
      {.ns = requests_.wait_ns(1, now_ns), .of = Of::kRequests},
  };
  return *std::ranges::max_element(all, {}, &Wait::ns);
}

}  // namespace djinn::server
