// SPDX-License-Identifier: Apache-2.0
#include "trace/tally.h"

#include <algorithm>
#include <cmath>

namespace djinn::trace {
namespace {

constexpr double kStep = 1.01;

}  // namespace

void Latencies::add(uint64_t ns) {
  const double us = std::max(1.0, static_cast<double>(ns) * 1e-3);
  const auto step = static_cast<size_t>(std::log(us) / std::log(kStep));
  ++steps_[std::min(step, kSteps - 1)];
  ++count_;
  most_ns_ = std::max(most_ns_, ns);
}

void Latencies::add(const Latencies& others) {
  for (size_t step = 0; step < kSteps; ++step) steps_[step] += others.steps_[step];
  count_ += others.count_;
  most_ns_ = std::max(most_ns_, others.most_ns_);
}

double Latencies::percentile(double share) const {
  if (count_ == 0) return 0;
  const auto rank = static_cast<uint64_t>(std::ceil(share * static_cast<double>(count_)));
  uint64_t seen = 0;
  size_t step = 0;
  while (step + 1 < kSteps && (seen += steps_[step]) < rank) ++step;
  return std::min(most(), std::pow(kStep, static_cast<double>(step) + 0.5) * 1e-3);
}

uint64_t Latencies::within(double ms) const {
  uint64_t count = 0;
  for (size_t step = 0; step < kSteps; ++step) {
    if (std::pow(kStep, static_cast<double>(step) + 0.5) * 1e-3 <= ms) count += steps_[step];
  }
  return count;
}

const char* name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalid:
      return "invalid";
    case ErrorCode::kNotFound:
      return "not_found";
    case ErrorCode::kOutOfMemory:
      return "out_of_memory";
    case ErrorCode::kExhausted:
      return "exhausted";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kFailed:
      return "failed";
    case ErrorCode::kDenied:
      return "denied";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kDeadline:
      return "deadline";
  }
  return "unknown";
}

}  // namespace djinn::trace
