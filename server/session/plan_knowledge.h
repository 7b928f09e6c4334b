// SPDX-License-Identifier: Apache-2.0
// PlanKnowledge: what was learnt of a plan while it ran, whoever sent it: how long its jobs take,
// and the longest of its operators, which nobody can interrupt.
//
// The time of a job is foretold from its size by a line through the plan's last runs, where old
// ones count less and less: a cache that grows makes each step longer, and a batch that changes
// changes everything. Per plan and not per operator, so that it costs two additions.
// Ownership: sessions that have the plan share it. Threading: any thread.
#pragma once

#include <cstdint>
#include <string>

#include "serialization/base/mutex.h"
#include "server/session/plan_facts.h"

namespace djinn::server {

// A line through points (units, ns), the newest of which counts most.
class Fit {
 public:
  void add(double units, double ns);
  // 0: there was no point yet.
  [[nodiscard]] double at(double units) const;

 private:
  double weight_ = 0;
  double mean_units_ = 0;
  double mean_ns_ = 0;
  double variance_ = 0;    // of units
  double covariance_ = 0;  // of units and ns
};

// For people.
struct PlanReport {
  std::string hash;  // the first half of its digits
  uint64_t operators = 0;
  uint64_t artifacts = 0;               // that it binds to storages
  uint64_t jobs = 0;                    // that have ended, since somebody has had the plan
  uint64_t used_ns = 0;                 // by all of them
  JobPhase phase = JobPhase::kUnknown;  // as its last job's numbers show
  uint64_t rows = 0;                    // likewise
  uint64_t flops = 0;
  uint64_t last_ns = 0;
  uint64_t expected_ns = 0;     // of such a job, if it came again
  uint64_t error_permille = 0;  // how far expectations were off, lately
  uint64_t longest_operator_ns = 0;
  std::string longest_operator;
};

class PlanKnowledge {
 public:
  explicit PlanKnowledge(const graph::Plan& plan) : plan_(plan), facts_(plan) {}

  [[nodiscard]] const PlanFacts& facts() const { return facts_; }
  // 0: nobody knows yet.
  [[nodiscard]] uint64_t expected_ns(const JobSize& size) const;
  // More than a first run is known, which also builds what the next ones find.
  [[nodiscard]] bool is_known() const;
  // A job is not to run for what is expected of it. False now and then, so that an expectation that
  // is wrong does not stand for ever.
  [[nodiscard]] bool may_refuse();
  // The next job's operators are to be timed, one by one.
  [[nodiscard]] bool times_operators() const;
  void ran(const JobSize& size, uint64_t expected_ns, uint64_t used_ns);
  void note_operator(uint32_t entry, uint64_t used_ns);
  [[nodiscard]] PlanReport report() const;

 private:
  const graph::Plan& plan_;  // whose knowledge lives with it
  const PlanFacts facts_;
  mutable Mutex mutex_;
  Fit fit_ GUARDED_BY(mutex_);
  uint64_t jobs_ GUARDED_BY(mutex_) = 0;
  uint64_t doubted_ GUARDED_BY(mutex_) = 0;
  uint64_t used_ns_ GUARDED_BY(mutex_) = 0;
  JobSize last_ GUARDED_BY(mutex_);
  uint64_t last_ns_ GUARDED_BY(mutex_) = 0;
  double error_ GUARDED_BY(mutex_) = 0;
  uint32_t longest_entry_ GUARDED_BY(mutex_) = graph::kNone;
  uint64_t longest_ns_ GUARDED_BY(mutex_) = 0;
};

}  // namespace djinn::server
