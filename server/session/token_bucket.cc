// SPDX-License-Identifier: Apache-2.0
#include "server/session/token_bucket.h"

#include <algorithm>
#include <cmath>

namespace djinn::server {
namespace {

constexpr double kSecondNs = 1e9;

}  // namespace

void TokenBucket::set_rate(double per_second, uint64_t now_ns) {
  const bool limited = limits();
  const double level_now = level(now_ns);
  per_second_ = per_second;
  level_ = limited ? std::min(level_now, most()) : most();
  since_ns_ = std::max(since_ns_, now_ns);
}

double TokenBucket::level(uint64_t now_ns) const {
  const auto passed_ns = static_cast<double>(std::max(now_ns, since_ns_) - since_ns_);
  return std::min(level_ + per_second_ * passed_ns / kSecondNs, most());
}

void TokenBucket::take(double amount, uint64_t now_ns) {
  if (!limits()) return;
  level_ = level(now_ns) - amount;
  since_ns_ = std::max(since_ns_, now_ns);
}

uint64_t TokenBucket::wait_ns(double amount, uint64_t now_ns) const {
  if (!limits()) return 0;
  const double missing_ns = (amount - level(now_ns)) / per_second_ * kSecondNs;
  return missing_ns < 1 ? 0 : static_cast<uint64_t>(std::ceil(missing_ns));  // Less is rounding.
}

}  // namespace djinn::server
