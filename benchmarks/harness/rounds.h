// SPDX-License-Identifier: Apache-2.0
// Rounds: arms measured in turn, so that what the machine does meanwhile happens to all of them.
//
// Before each round a canary runs: short spins of fixed length. If they come out uneven, somebody
// else has the core, and the round is measured again, at most three times; how often is reported.
// Threading: one thread.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

namespace djinn::benchmarks {

using Clock = std::chrono::steady_clock;

[[nodiscard]] inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}
// Of one call.
[[nodiscard]] double seconds_of(const std::function<void()>& call);

class Rounds {
 public:
  explicit Rounds(int count) : count_(count) {}

  // Calls `round(i)`, i = 0, 1, ...; what it measured goes to whoever it chooses.
  void run(const std::function<void(int)>& round);

  // Rounds put off because the machine was uneven, and rounds that ran on an uneven machine after
  // all, as it did not calm down.
  [[nodiscard]] int postponed() const { return postponed_; }
  [[nodiscard]] int disturbed() const { return disturbed_; }

 private:
  int count_ = 0;
  int postponed_ = 0;
  int disturbed_ = 0;
};

}  // namespace djinn::benchmarks
