// SPDX-License-Identifier: Apache-2.0
#include "server/session/admission.h"

#include <algorithm>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

constexpr uint64_t kTypicalShare = 16;  // A job moves what is typical by a sixteenth.

uint32_t to_ms(uint64_t ns) {
  return static_cast<uint32_t>(std::clamp<uint64_t>(ns / 1'000'000, 1, uint64_t{kRetryAfterMsMax}));
}

uint64_t& count_of(Refusals& refusals, RateLimits::Of of) {
  switch (of) {
    case RateLimits::Of::kDeviceTime:
      return refusals.device_time;
    case RateLimits::Of::kBytes:
      return refusals.bytes;
    default:
      return refusals.requests;
  }
}

}  // namespace

Admission::Queue& Admission::queue(std::string_view tenant) {
  const auto at = queues_.find(tenant);
  return at != queues_.end() ? at->second : queues_[std::string(tenant)];
}

std::optional<uint32_t> Admission::refuse(const Place& place, uint64_t now_ns) {
  Queue& queue = *place.queue;
  const std::optional<uint32_t> full_ms = refuse_by_queue(place);
  const RateLimits::Wait wait = queue.rates.wait(queue.expected_ns, now_ns);
  if (wait.ns == 0) return full_ms;
  const uint32_t rate_ms = to_ms(wait.ns + 999'999);  // Not earlier.
  if (full_ms) return std::max(*full_ms, rate_ms);
  ++queue.rate_refusals;
  ++count_of(refusals_, wait.of);
  return rate_ms;
}

std::optional<uint32_t> Admission::refuse_by_queue(const Place& place) {
  const Queue& queue = *place.queue;
  const bool own = queue.jobs_max > 0 && queue.jobs >= queue.jobs_max;
  const uint64_t tenants = tenants_ + (queue.jobs == 0 ? 1 : 0);
  const bool all = jobs_ >= jobs_max_ && queue.jobs >= jobs_max_ / tenants;
  if (!own && !all) return std::nullopt;
  const uint64_t part = own ? queue.jobs_max : jobs_max_ / tenants;
  const uint64_t sessions = queue.sessions + (place.counted_ns.empty() ? 1 : 0);
  if (place.counted_ns.size() < part / sessions) return std::nullopt;
  ++(own ? refusals_.tenant_queue : refusals_.queue);
  return retry_after_ms(queue, own);
}

// Half of its own jobs, where they are too many, and as much of everybody else's beside them; else
// half of all.
uint32_t Admission::retry_after_ms(const Queue& queue, bool own_limit) const {
  const uint64_t half_ns = queue.expected_ns / 2;
  const uint64_t others_ns = expected_ns_ - queue.expected_ns;
  const uint64_t beside_ns = std::min(others_ns, half_ns * (std::max<uint64_t>(tenants_, 1) - 1));
  const uint64_t wait_ns = own_limit ? half_ns + beside_ns : expected_ns_ / 2;
  return to_ms(wait_ns);
}

void Admission::add(Place& place, uint64_t expected_ns, uint64_t now_ns) {
  place.queue->rates.take_request(now_ns);
  if (expected_ns > 0) {
    typical_ns_ += expected_ns / kTypicalShare - typical_ns_ / kTypicalShare;
  } else {
    expected_ns = typical_ns_;
  }
  Queue& queue = *place.queue;
  if (place.counted_ns.empty()) ++queue.sessions;
  place.counted_ns.push_back(expected_ns);
  if (queue.jobs++ == 0) ++tenants_;
  ++jobs_;
  queue.expected_ns += expected_ns;
  expected_ns_ += expected_ns;
}

void Admission::end(Place& place) {
  Queue& queue = *place.queue;
  const uint64_t counted_ns = place.counted_ns.front();
  place.counted_ns.pop_front();
  if (place.counted_ns.empty()) --queue.sessions;
  if (--queue.jobs == 0) --tenants_;
  --jobs_;
  queue.expected_ns -= counted_ns;
  expected_ns_ -= counted_ns;
}

}  // namespace djinn::server
