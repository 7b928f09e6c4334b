// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/harness/rounds.h"

#include <thread>

#include "benchmarks/harness/statistics.h"

namespace djinn::benchmarks {
namespace {

constexpr int kSpins = 20;
constexpr double kUneven = 1.3;  // p95 / p50 of the spins
constexpr int kPatience = 3;

// The time of a fixed amount of arithmetic, about half a millisecond.
double spin() {
  return seconds_of([] {
    volatile uint64_t sink = 0;
    uint64_t x = 1;
    for (int i = 0; i < 400'000; ++i) x = x * 6364136223846793005ULL + 1442695040888963407ULL;
    sink = x;
    (void)sink;
  });
}

bool is_even() {
  std::vector<double> spins(kSpins);
  for (double& each : spins) each = spin();
  return percentile(spins, 0.95) <= kUneven * percentile(spins, 0.5);
}

}  // namespace

double seconds_of(const std::function<void()>& call) {
  const auto start = Clock::now();
  call();
  return seconds_since(start);
}

void Rounds::run(const std::function<void(int)>& round) {
  for (int i = 0; i < count_; ++i) {
    int tries = 0;
    while (!is_even() && tries < kPatience) {
      ++tries;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    postponed_ += tries;
    disturbed_ += tries == kPatience ? 1 : 0;
    round(i);
  }
}

}  // namespace djinn::benchmarks
