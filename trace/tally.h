// SPDX-License-Identifier: Apache-2.0
// Tally: what came out of playing traces: counts, errors by their code, and latencies.
//
// Latencies are counted in steps of 1 %, so an hour of load takes no more memory than a second.
// Threading: plain values.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "serialization/base/result.h"

namespace djinn::trace {

class Latencies {
 public:
  void add(uint64_t ns);
  void add(const Latencies& others);
  [[nodiscard]] uint64_t count() const { return count_; }
  // How many took no longer; right to 1 %.
  [[nodiscard]] uint64_t within(double ms) const;
  // Milliseconds; `share` in [0, 1]. 0 if there are none.
  [[nodiscard]] double percentile(double share) const;
  [[nodiscard]] double most() const { return static_cast<double>(most_ns_) * 1e-6; }

 private:
  static constexpr size_t kSteps = 2048;  // From 1 us to 11 minutes.
  std::array<uint64_t, kSteps> steps_{};
  uint64_t count_ = 0;
  uint64_t most_ns_ = 0;
};

struct Tally {
  uint64_t plays = 0;       // from the first frame to the last answer
  uint64_t unfinished = 0;  // cut off when the time was over
  uint64_t jobs = 0;        // each once, however often it was sent
  uint64_t refusals = 0;    // jobs that a busy server told to come again
  uint64_t repeats = 0;     // jobs sent again for that: the refused, and those behind
  uint64_t answers = 0;
  uint64_t different = 0;                // answers that are not those of the trace
  uint64_t operators = 0;                // as the server counted them, in plays that are complete
  uint64_t sent_bytes = 0;               // messages and payloads
  std::map<ErrorCode, uint64_t> errors;  // plays that ended with one
  std::string first_error;
  std::string first_difference;
  Latencies answer;        // from its job to it
  Latencies first_answer;  // from when the play was due to its first answer
  Latencies per_answer;    // of a play, the mean time from one answer to the next
  Latencies play;          // from when it was due to its last answer
  Latencies late;          // from a job to the error that it cannot meet its deadline
};

[[nodiscard]] const char* name(ErrorCode code);

}  // namespace djinn::trace
