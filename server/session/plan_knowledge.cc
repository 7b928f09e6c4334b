// SPDX-License-Identifier: Apache-2.0
#include "server/session/plan_knowledge.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace djinn::server {
namespace {

constexpr double kFade = 0.9;        // What a point counts when the next has come.
constexpr double kSpreadMin = 1e-6;  // of units, relative and squared: less says nothing of a slope
constexpr uint64_t kProbedEvery = 256;
constexpr uint64_t kTimedEvery = 16;  // The first jobs are slow for other reasons.
constexpr uint64_t kTimedFirst = 2;

}  // namespace

void Fit::add(double units, double ns) {
  weight_ = kFade * weight_ + 1;
  const double off_units = units - mean_units_;
  const double share = 1 / weight_;
  mean_units_ += share * off_units;
  const double off_ns = ns - mean_ns_;
  mean_ns_ += share * off_ns;
  variance_ = (1 - share) * (variance_ + share * off_units * off_units);
  covariance_ = (1 - share) * (covariance_ + share * off_units * off_ns);
}

double Fit::at(double units) const {
  if (weight_ == 0) return 0;
  if (variance_ <= kSpreadMin * mean_units_ * mean_units_) {
    return mean_units_ > 0 ? mean_ns_ * units / mean_units_ : mean_ns_;
  }
  // Neither more work in less time, nor less than none at all.
  const double most = mean_units_ > 0 ? mean_ns_ / mean_units_ : 0;
  const double slope = std::clamp(covariance_ / variance_, 0.0, most);
  return std::max(0.0, mean_ns_ + slope * (units - mean_units_));
}

uint64_t PlanKnowledge::expected_ns(const JobSize& size) const {
  const MutexLock lock(mutex_);
  return static_cast<uint64_t>(fit_.at(static_cast<double>(size.units())));
}

bool PlanKnowledge::may_refuse() {
  const MutexLock lock(mutex_);
  return ++doubted_ % kProbedEvery != 0;
}

bool PlanKnowledge::is_known() const {
  const MutexLock lock(mutex_);
  return jobs_ > 1;
}

bool PlanKnowledge::times_operators() const {
  const MutexLock lock(mutex_);
  return jobs_ % kTimedEvery == kTimedFirst;
}

void PlanKnowledge::ran(const JobSize& size, uint64_t expected_ns, uint64_t used_ns) {
  const MutexLock lock(mutex_);
  ++jobs_;
  used_ns_ += used_ns;
  // The first run also builds what the next ones find.
  if (jobs_ == 2) fit_ = {};
  fit_.add(static_cast<double>(size.units()), static_cast<double>(used_ns));
  last_ = size;
  last_ns_ = used_ns;
  if (expected_ns == 0 || used_ns == 0) return;
  const double off = std::abs(static_cast<double>(expected_ns) - static_cast<double>(used_ns));
  error_ += (off / static_cast<double>(used_ns) - error_) / 8;
}

void PlanKnowledge::note_operator(uint32_t entry, uint64_t used_ns) {
  const MutexLock lock(mutex_);
  if (used_ns <= longest_ns_) return;
  longest_ns_ = used_ns;
  longest_entry_ = entry;
}

PlanReport PlanKnowledge::report() const {
  std::array<char, 17> hash{};
  std::snprintf(hash.data(), hash.size(), "%016llx",
                static_cast<unsigned long long>(plan_.hash.high));
  PlanReport out;
  out.hash = hash.data();
  out.operators = facts_.operators();
  out.artifacts =
      static_cast<uint64_t>(std::ranges::count_if(plan_.entries, [](const graph::Entry& entry) {
        return entry.kind == graph::EntryKind::kUpload &&
               entry.form == graph::UploadForm::kArtifact;
      }));
  const MutexLock lock(mutex_);
  out.jobs = jobs_;
  out.used_ns = used_ns_;
  out.phase = facts_.phase(last_);
  out.rows = last_.rows;
  out.flops = last_.flops;
  out.last_ns = last_ns_;
  out.expected_ns = static_cast<uint64_t>(fit_.at(static_cast<double>(last_.units())));
  out.error_permille = static_cast<uint64_t>(1000 * error_);
  out.longest_operator_ns = longest_ns_;
  if (longest_entry_ != graph::kNone && is_operator(plan_.entries[longest_entry_])) {
    out.longest_operator = plan_.ops[plan_.entries[longest_entry_].op];
  }
  return out;
}

}  // namespace djinn::server
