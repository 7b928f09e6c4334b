// SPDX-License-Identifier: Apache-2.0
// Waits: how long jobs of a class waited for their first turn, counted in steps.
//
// Why steps and no percentiles: counts of two moments can be subtracted, so whoever looks knows
// what was between them. Threading: plain value.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace djinn::sched {

struct Waits {
  static constexpr std::array<uint64_t, 9> kStepsNs{100'000,       1'000'000,      5'000'000,
                                                    20'000'000,    100'000'000,    500'000'000,
                                                    2'000'000'000, 10'000'000'000, 60'000'000'000};
  // How many waited at most so long, and longer than the step before; the last: longer than all.
  std::array<uint64_t, kStepsNs.size() + 1> jobs{};
  uint64_t total_ns = 0;

  void add(uint64_t wait_ns) {
    const auto* const step = std::ranges::lower_bound(kStepsNs, wait_ns);
    ++jobs[static_cast<size_t>(step - kStepsNs.begin())];
    total_ns += wait_ns;
  }
};

}  // namespace djinn::sched
