// SPDX-License-Identifier: Apache-2.0
#include "server/session/deadline.h"

#include <algorithm>
#include <string>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

std::string ms(uint64_t ns) { return std::to_string(ns / 1'000'000) + " ms"; }

std::shared_ptr<const Error> deadline_error(std::string text) {
  return std::make_shared<const Error>(Error{ErrorCode::kDeadline, std::move(text)});
}

}  // namespace

std::shared_ptr<const Error> too_late(const Late& late) {
  const uint64_t over_ns =
      late.wait_ns + late.expected_ns - std::min(late.deadline_ns, late.wait_ns + late.expected_ns);
  const uint64_t retry_ms = std::clamp<uint64_t>(
      late.retry_after_ms > 0 ? late.retry_after_ms : over_ns / 1'000'000, 1, kRetryAfterMsMax);
  const std::string ahead =
      late.retry_after_ms > 0
          ? "the queue is full"
          : "work of " + ms(late.wait_ns) + " is ahead of it, and it takes " + ms(late.expected_ns);
  return deadline_error("did not run: its deadline is " + ms(late.deadline_ns) +
                        " after it came, but " + ahead + "; try again in " +
                        std::to_string(retry_ms) + " ms");
}

std::shared_ptr<const Error> late_at_its_turn(uint64_t left_ns, uint64_t deadline_ns,
                                              uint64_t now_ns) {
  if (now_ns > deadline_ns) {
    return deadline_error("stopped: its deadline passed " + ms(now_ns - deadline_ns) +
                          " ago while others were ahead of it");
  }
  return deadline_error("did not run: its deadline is in " + ms(deadline_ns - now_ns) +
                        ", and it takes " + ms(left_ns) + "; others took longer than expected");
}

}  // namespace djinn::server
