// SPDX-License-Identifier: Apache-2.0
#include "server/session/deadline.h"

#include <algorithm>
#include <string>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

std::string ms(uint64_t ns) { return std::to_string(ns / 1'000'000) + " ms"; }

std::shared_ptr<const Error> deadline_error(std::string why, uint64_t retry_ms) {
  const uint64_t clamped_ms = std::clamp<uint64_t>(retry_ms, 1, kRetryAfterMsMax);
  return std::make_shared<const Error>(Error{
      ErrorCode::kDeadline,
      "did not run: " + std::move(why) + "; try again in " + std::to_string(clamped_ms) + " ms"});
}

}  // namespace

std::shared_ptr<const Error> too_late(const Late& late) {
  const std::string due = "its deadline is " + ms(late.deadline_ns) + " after it came, but ";
  if (late.retry_after_ms > 0) {
    return deadline_error(
        due + (late.rate ? "its tenant has had what it may have of the device per second"
                         : "the queue is full"),
        late.retry_after_ms);
  }
  const uint64_t needed_ns = late.wait_ns + late.expected_ns;
  return deadline_error(
      due + "work of " + ms(late.wait_ns) + " is ahead of it, and it takes " + ms(late.expected_ns),
      (needed_ns - std::min(late.deadline_ns, needed_ns)) / 1'000'000);
}

std::shared_ptr<const Error> late_at_its_turn(uint64_t expected_ns, uint64_t deadline_ns,
                                              uint64_t now_ns) {
  const uint64_t retry_ms = (now_ns + expected_ns - deadline_ns) / 1'000'000;
  if (now_ns > deadline_ns) {
    return deadline_error(
        "its deadline passed " + ms(now_ns - deadline_ns) + " ago while others were ahead of it",
        retry_ms);
  }
  return deadline_error("its deadline is in " + ms(deadline_ns - now_ns) + ", and it takes " +
                            ms(expected_ns) + "; others took longer than expected",
                        retry_ms);
}

}  // namespace djinn::server
