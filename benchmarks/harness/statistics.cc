// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/harness/statistics.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

namespace djinn::benchmarks {

double percentile(std::vector<double> values, double share) {
  if (values.empty()) throw std::invalid_argument("percentile: no values");
  const auto last = static_cast<double>(values.size() - 1);
  const auto at = static_cast<ptrdiff_t>(std::lround(std::clamp(share, 0.0, 1.0) * last));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
}

double median(std::vector<double> values) { return percentile(std::move(values), 0.5); }

Interval median_interval(std::span<const double> values) {
  constexpr int kResamples = 2000;
  if (values.empty()) throw std::invalid_argument("median_interval: no values");
  std::mt19937_64 random(1);
  std::uniform_int_distribution<size_t> pick(0, values.size() - 1);
  std::vector<double> medians(kResamples);
  std::vector<double> resample(values.size());
  for (double& each : medians) {
    for (double& value : resample) value = values[pick(random)];
    each = median(resample);
  }
  return {.low = percentile(medians, 0.025), .high = percentile(medians, 0.975)};
}

}  // namespace djinn::benchmarks
