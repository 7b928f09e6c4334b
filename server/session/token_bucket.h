// SPDX-License-Identifier: Apache-2.0
// Token bucket: so much per second, and as much of a second's at once. What is taken may be more
// than there is: then it is in debt, and nothing is there until that is paid.
//
// Why debts: what a job uses is known when it has ended, and it must not be wasted then.
// Time only goes on: a moment before the last one is the last one.
// Threading: plain value.
#pragma once

#include <cstdint>

namespace djinn::server {

class TokenBucket {
 public:
  // 0: no limit. It begins full; a change leaves what is in it, or owed, but for what is more than
  // a second's.
  void set_rate(double per_second, uint64_t now_ns);
  [[nodiscard]] bool limits() const { return per_second_ > 0; }

  void take(double amount, uint64_t now_ns);
  // Negative: a debt.
  [[nodiscard]] double level(uint64_t now_ns) const;
  // Until so much is there, if nobody takes any. 0: it is.
  [[nodiscard]] uint64_t wait_ns(double amount, uint64_t now_ns) const;

 private:
  // At least one, so that a rate below that lets something in.
  [[nodiscard]] double most() const { return per_second_ < 1 ? 1 : per_second_; }

  double per_second_ = 0;
  double level_ = 0;  // at since_ns_
  uint64_t since_ns_ = 0;
};

}  // namespace djinn::server
