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

uint64_t Refusals::*reason_of(RateLimits::Of of) {
  switch (of) {
    case RateLimits::Of::kDeviceTime:
      return &Refusals::device_time;
    case RateLimits::Of::kBytes:
      return &Refusals::bytes;
    default:
      return &Refusals::requests;
  }
}

}  // namespace

Admission::Queue& Admission::queue(std::string_view tenant) {
  const auto at = queues_.find(tenant);
  return at != queues_.end() ? at->second : queues_[std::string(tenant)];
}

std::optional<Admission::Refusal> Admission::refuse(const Place& place, uint64_t now_ns,
                                                    uint64_t patience_ns) {
  Queue& queue = *place.queue;
  const std::optional<Full> full = is_full(place);
  const RateLimits::Wait wait = queue.rates.wait(queue.expected_ns, now_ns);
  if (!full && wait.ns == 0) return std::nullopt;
  const uint32_t rate_ms = wait.ns == 0 ? 0 : to_ms(wait.ns + 999'999);  // Not earlier.
  const uint32_t retry_after_ms = std::max(full ? full->retry_after_ms : 0, rate_ms);
  if (uint64_t{retry_after_ms} * 1'000'000 > patience_ns) {
    return Refusal{.retry_after_ms = retry_after_ms, .late = true};
  }
  if (!full) ++queue.rate_refusals;
  ++(refusals_.*(full ? full->reason : reason_of(wait.of)));
  return Refusal{.retry_after_ms = retry_after_ms};
}

std::optional<Admission::Full> Admission::is_full(const Place& place) const {
  const Queue& queue = *place.queue;
  const bool own = queue.jobs_max > 0 && queue.jobs >= queue.jobs_max;
  const uint64_t tenants = tenants_ + (queue.jobs == 0 ? 1 : 0);
  const bool all = jobs_ >= jobs_max_ && queue.jobs >= jobs_max_ / tenants;
  if (!own && !all) return std::nullopt;
  const uint64_t part = own ? queue.jobs_max : jobs_max_ / tenants;
  const uint64_t sessions = queue.sessions + (place.counted.empty() ? 1 : 0);
  if (place.counted.size() < part / sessions) return std::nullopt;
  return Full{.retry_after_ms = retry_after_ms(queue, own),
              .reason = own ? &Refusals::tenant_queue : &Refusals::queue};
}

uint64_t Admission::wait_ns(const Place& place, const Entrant& entrant) const {
  const Queue& queue = *place.queue;
  const uint64_t own_ns = entrant.prompt ? queue.prompt_ns : queue.expected_ns;
  const uint64_t all_ns = entrant.prompt ? prompt_ns_ : expected_ns_;
  const uint64_t other_tenants = tenants_ - (queue.jobs == 0 ? 0 : 1);
  return own_ns + std::min(all_ns - own_ns, (own_ns + entrant.expected_ns) * other_tenants);
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

void Admission::add(Place& place, const Entrant& entrant, uint64_t now_ns) {
  place.queue->rates.take_request(now_ns);
  Counted counted{.ns = entrant.expected_ns, .prompt = entrant.prompt};
  if (entrant.refused) {
    counted.ns = 0;
    ++refusals_.deadline;
  } else if (counted.ns > 0) {
    typical_ns_ += counted.ns / kTypicalShare - typical_ns_ / kTypicalShare;
  } else {
    counted.ns = typical_ns_;
  }
  Queue& queue = *place.queue;
  if (place.counted.empty()) ++queue.sessions;
  place.counted.push_back(counted);
  if (queue.jobs++ == 0) ++tenants_;
  ++jobs_;
  queue.expected_ns += counted.ns;
  expected_ns_ += counted.ns;
  if (!counted.prompt) return;
  queue.prompt_ns += counted.ns;
  prompt_ns_ += counted.ns;
}

void Admission::end(Place& place) {
  Queue& queue = *place.queue;
  const Counted counted = place.counted.front();
  place.counted.pop_front();
  if (place.counted.empty()) --queue.sessions;
  if (--queue.jobs == 0) --tenants_;
  --jobs_;
  queue.expected_ns -= counted.ns;
  expected_ns_ -= counted.ns;
  if (!counted.prompt) return;
  queue.prompt_ns -= counted.ns;
  prompt_ns_ -= counted.ns;
}

}  // namespace djinn::server
