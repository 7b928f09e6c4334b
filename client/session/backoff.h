// SPDX-License-Identifier: Apache-2.0
// Backoff: when to send again what a busy server refused.
//
// Never before the server said, and behind that by a random time, up to twice as long with each
// refusal of the same job: so that all whom it refused do not come back at once.
// Threading: a plain value.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>

#include "serialization/base/limits.h"

namespace djinn::client {

class Backoff {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kJitterMin{4};
  static constexpr std::chrono::milliseconds kJitterMax{2000};

  explicit Backoff(uint64_t seed) : random_(seed) {}

  // The server refused this job; from here on it is not to be sent until `due`.
  void refused(uint32_t job, uint32_t retry_after_ms, Clock::time_point now) {
    if (job != job_ || !since_) {
      job_ = job;
      since_ = now;
      refusals_ = 0;
    }
    const auto jitter = std::min(kJitterMin * (1 << std::min(refusals_, 16U)), kJitterMax);
    ++refusals_;
    const auto random_ms = random_() % (static_cast<uint64_t>(jitter.count()) + 1);
    due_ = now + std::chrono::milliseconds(std::min(retry_after_ms, kRetryAfterMsMax) + random_ms);
  }
  // Nothing: there is nothing to send again.
  [[nodiscard]] std::optional<Clock::time_point> due() const { return due_; }
  void sent() { due_.reset(); }
  // Job numbers wrap: all before this one have ended, so what was refused was let in.
  void ended_before(uint32_t job) {
    if (since_ && static_cast<int32_t>(job_ - job) < 0) since_.reset();
  }
  // Since when that one job has been refused, and how often.
  [[nodiscard]] std::optional<Clock::time_point> since() const { return since_; }
  [[nodiscard]] uint32_t refusals() const { return refusals_; }

 private:
  std::minstd_rand random_;
  uint32_t job_ = 0;
  uint32_t refusals_ = 0;
  std::optional<Clock::time_point> since_;
  std::optional<Clock::time_point> due_;
};

}  // namespace djinn::client
