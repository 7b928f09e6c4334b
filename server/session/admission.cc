// SPDX-License-Identifier: Apache-2.0
#include "server/session/admission.h"

#include <algorithm>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

constexpr uint64_t kTypicalShare = 16;  // A job moves what is typical by a sixteenth.

// a * n, or `most` if that is less.
uint64_t product(uint64_t a, uint64_t n, uint64_t most) {
  return n != 0 && a > most / n ? most : std::min(most, a * n);
}

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
  const bool may_be_late = wait.ns == 0 || wait.of == RateLimits::Of::kDeviceTime;
  if (!full) ++queue.rate_refusals;
  if (may_be_late && uint64_t{retry_after_ms} * 1'000'000 > patience_ns) {
    return Refusal{.retry_after_ms = retry_after_ms, .late = true, .rate = !full};
  }
  ++(refusals_.*(full ? full->reason : reason_of(wait.of)));
  return Refusal{.retry_after_ms = retry_after_ms, .rate = !full};
}

std::optional<Admission::Full> Admission::is_full(const Place& place) const {
  const Queue& queue = *place.queue;
  const bool own = queue.jobs_max > 0 && queue.jobs >= queue.jobs_max;
  const uint64_t tenants = tenants_ + (queue.jobs == 0 ? 1 : 0);
  const bool all = jobs_ >= jobs_max_ && queue.jobs >= jobs_max_ / tenants;
  if (!own && !all) return std::nullopt;
  const uint64_t part = own ? queue.jobs_max : jobs_max_ / tenants;
  const uint64_t sessions = queue.sessions + (place.jobs == 0 ? 1 : 0);
  if (place.jobs < part / sessions) return std::nullopt;
  return Full{.retry_after_ms = retry_after_ms(queue, own),
              .reason = own ? &Refusals::tenant_queue : &Refusals::queue};
}

uint64_t Admission::wait_ns(const Place& place, const Entrant& entrant) const {
  const Queue& queue = *place.queue;
  const bool prompt = entrant.prompt && !queue.best_effort;
  const uint64_t of_tenant_ns =
      prompt ? queue.prompt_ns - queue.paused_prompt_ns : queue.expected_ns - queue.paused_ns;
  const uint64_t of_all_ns = prompt ? prompt_ns_ - paused_prompt_ns_ : expected_ns_ - paused_ns_;
  // Its own run before it in any case.
  const uint64_t tenant_ns = std::max(of_tenant_ns, place.expected_ns);
  const uint64_t all_ns = std::max(of_all_ns, tenant_ns);
  const uint64_t other_sessions = queue.sessions - (place.jobs == 0 ? 0 : 1);
  const uint64_t other_tenants = tenants_ - (queue.jobs == 0 ? 0 : 1);
  const uint64_t expected_ns = entrant.expected_ns > 0 ? entrant.expected_ns : typical_ns_;
  const uint64_t own_ns = place.expected_ns + expected_ns;
  const uint64_t beside_ns = product(own_ns, other_sessions, tenant_ns - place.expected_ns);
  const uint64_t others_ns = product(own_ns + beside_ns, other_tenants, all_ns - tenant_ns);
  return place.expected_ns + beside_ns + others_ns;
}

void Admission::pause(Place& place, bool paused) {
  if (place.paused == paused) return;
  place.paused = paused;
  const auto move = [paused](uint64_t& sum, uint64_t ns) { paused ? sum += ns : sum -= ns; };
  move(paused_ns_, place.expected_ns);
  move(paused_prompt_ns_, place.prompt_ns);
  move(place.queue->paused_ns, place.expected_ns);
  move(place.queue->paused_prompt_ns, place.prompt_ns);
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

void Admission::count(Place& place, const Counted& counted, bool comes) {
  Queue& queue = *place.queue;
  const auto move = [comes](uint64_t& sum, uint64_t by) { comes ? sum += by : sum -= by; };
  for (uint64_t* const sum : {&place.expected_ns, &queue.expected_ns, &expected_ns_}) {
    move(*sum, counted.ns);
  }
  const uint64_t prompt_ns = counted.prompt ? counted.ns : 0;
  for (uint64_t* const sum : {&place.prompt_ns, &queue.prompt_ns, &prompt_ns_}) {
    move(*sum, prompt_ns);
  }
  if (!place.paused) return;
  for (uint64_t* const sum : {&queue.paused_ns, &paused_ns_}) move(*sum, counted.ns);
  for (uint64_t* const sum : {&queue.paused_prompt_ns, &paused_prompt_ns_}) move(*sum, prompt_ns);
}

void Admission::add(Place& place, const Entrant& entrant, uint64_t now_ns) {
  Queue& queue = *place.queue;
  queue.rates.take_request(now_ns);
  Counted counted{.ns = entrant.expected_ns,
                  .prompt = entrant.prompt && !queue.best_effort,
                  .refused = entrant.refused};
  if (counted.refused) {
    ++refusals_.deadline;
    place.counted.push_back(counted);
    return;
  }
  if (counted.ns > 0) {
    typical_ns_ += counted.ns / kTypicalShare - typical_ns_ / kTypicalShare;
  } else {
    counted.ns = typical_ns_;
  }
  place.counted.push_back(counted);
  if (place.jobs++ == 0) ++queue.sessions;
  if (queue.jobs++ == 0) ++tenants_;
  ++jobs_;
  count(place, counted, true);
}

void Admission::end(Place& place) {
  Queue& queue = *place.queue;
  const Counted counted = place.counted.front();
  place.counted.pop_front();
  if (counted.refused) return;
  if (--place.jobs == 0) --queue.sessions;
  if (--queue.jobs == 0) --tenants_;
  --jobs_;
  count(place, counted, false);
}

}  // namespace djinn::server
