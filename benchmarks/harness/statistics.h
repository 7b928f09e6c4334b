// SPDX-License-Identifier: Apache-2.0
// Statistics: medians, percentiles, and how far a median may be from the truth.
//
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace djinn::benchmarks {

// `share` in [0, 1]; the nearest rank. Throws std::invalid_argument if there are no values.
[[nodiscard]] double percentile(std::vector<double> values, double share);
[[nodiscard]] double median(std::vector<double> values);

struct Interval {
  double low = 0;
  double high = 0;
};

// The 95 % interval of the median by the percentile bootstrap (Efron 1979): 2,000 resamples, drawn
// from a fixed seed so that a report can be repeated from its samples.
[[nodiscard]] Interval median_interval(std::span<const double> values);

}  // namespace djinn::benchmarks
