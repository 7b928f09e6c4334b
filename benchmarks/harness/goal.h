// SPDX-License-Identifier: Apache-2.0
// Goal: a figure with a promise. What came out, in how many rounds, beside what the harness itself
// would have found between two equal arms, and whether the promise holds.
//
// Source of the verdict: the measuring rules of the evaluation (docs/benchmarks.md). Threading:
// values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "benchmarks/harness/statistics.h"

namespace djinn::benchmarks {

enum class Verdict { kPass, kFail, kNoisy };
[[nodiscard]] std::string_view name(Verdict verdict);

enum class Better { kLower, kHigher };

// What is promised of a figure.
struct Promise {
  std::string id;    // "decode_time_ratio"
  std::string unit;  // "ratio", "B", "ms"
  Better better = Better::kLower;
  double must = 0;
  double aim = 0;
};

// One arm's figures: a value per round.
struct Samples {
  std::string arm;                 // "fp32/cat"
  std::vector<double> value = {};  // per round
  std::vector<double> null =
      {};          // per round, of two equal arms; empty: a count, which has no noise
  uint64_t n = 0;  // what was measured in all rounds together: tokens, trips, bytes
};

struct Goal {
  Promise promise;
  std::string arm;
  double value = 0;  // the median of the rounds
  double least = 0;
  double most = 0;
  Interval interval;           // of the median, 95 %
  std::vector<double> rounds;  // as measured
  double null = 0;             // the median of the null arm; 0 without one
  Interval null_interval;
  bool has_null = false;
  uint64_t n = 0;
  Verdict verdict = Verdict::kNoisy;
};

// PASS: the median keeps the promise. FAIL: it does not, and neither does the whole of its
// interval. NOISY: it does not, but its interval cannot exclude that, or the null arm's interval,
// which should hold 1, is further from 1 than the promise is wide; or a gain is promised, and that
// interval reaches what was measured.
[[nodiscard]] Goal judge(const Promise& promise, const Samples& samples);

// The one that is reported under the promise's id: the worst of its arms. Throws
// std::invalid_argument if there are none.
[[nodiscard]] const Goal& worst(const std::vector<Goal>& arms);

}  // namespace djinn::benchmarks
