// SPDX-License-Identifier: Apache-2.0
// Lane: one session's jobs, which run in order, one at a time. Tenant: who pays for the sessions.
//
// The scheduler keeps the facts; a policy keeps its order in `key`, `group` and Group, which are
// empty again before another policy sees them.
// Ownership: the Scheduler owns both. Threading: plain values.
#pragma once

#include <array>
#include <string>

#include "scheduler/heap.h"
#include "scheduler/job.h"
#include "serialization/base/ids.h"

namespace djinn::sched {

struct Lane;
struct Tenant;

// What an operator decides of a tenant; takes effect with the next decision.
struct Terms {
  double weight = 1;                        // > 0: its share of the device beside others'
  Class ceiling = Class::kLatencyCritical;  // Its jobs are of this class at best.

  bool operator==(const Terms&) const = default;
};

// A tenant's candidates among those that a policy compares with each other.
struct Group : Ranked {
  Tenant* tenant = nullptr;
  Heap<Lane> lanes;
  uint64_t virtual_ns = 0;  // device time over weight, lifted when it comes back
  uint64_t behind_ns = 0;   // how far below the others it was when it left
  uint64_t left_ns = 0;     // and what all had used then
  uint64_t floor_ns = 0;    // what its lanes are lifted to
};

struct Tenant {
  std::string name;
  uint64_t number = 0;  // 1, 2, 3, ... as they came
  Terms terms;
  uint64_t used_ns = 0;   // device time since the start
  uint64_t begun_ns = 0;  // of this, by jobs that have begun and not ended, and whose sessions live
  uint64_t jobs = 0;      // that have ended
  size_t waiting = 0;     // jobs of all its sessions
  size_t sessions = 0;
  std::array<Group, kClasses> groups;
};

struct Lane : Ranked {
  SessionId session;
  Tenant* tenant = nullptr;
  JobRing jobs;                          // The first runs, if running.
  Class in_class = Class::kInteractive;  // of the first job, within the tenant's ceiling
  bool running = false;
  bool paused = false;
  bool candidate = false;
  bool removed = false;        // Dies when its job has ended.
  bool begun = false;          // Its first job has had a turn.
  uint64_t company = 0;        // that job's, as it was when it began
  bool late = false;           // Its company is amid a step, and it waits for the next one,
  uint64_t late_since_ns = 0;  // since then.
  uint64_t used_ns = 0;        // by the job that has begun

  // How long it rests: from the end of its last job until the next one comes.
  uint64_t resting_since_ns = kNever;  // kNever: it does not, or never ran
  uint64_t gap_ns = 0;                 // 0: not known; most of its gaps are shorter
  uint64_t gap_mean_ns = 0;
  uint64_t gap_deviation_ns = 0;

  // The policy's.
  Group* group = nullptr;
  uint64_t virtual_ns = 0;  // as the group's, among the tenant's lanes
  uint64_t behind_ns = 0;   // likewise
  bool overdue = false;
  uint32_t holds_missed = 0;
  uint32_t rests = 0;

  [[nodiscard]] const JobInfo& job() const { return jobs.front(); }
};

}  // namespace djinn::sched
