// SPDX-License-Identifier: Apache-2.0
// Task: a job on its way from its session to the device; Report: what comes back of it.
//
// Threading: plain values, handed from the I/O thread to the runner's and back.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "scheduler/job.h"
#include "serialization/base/ids.h"
#include "serialization/base/result.h"
#include "server/executor.h"
#include "server/session/plan_knowledge.h"

namespace djinn::server {

// How long a plan's jobs take in one session. Written by the thread that ran one.
struct RunTime {
  std::atomic<uint64_t> last_ns = UINT64_MAX;   // UINT64_MAX: never ran
  std::atomic<uint64_t> last_elements = 0;      // what its operands spanned then (tiny.h)
  std::atomic<uint64_t> shared_bytes_name = 0;  // as the Replay said then
};

struct Task {
  Work work;
  std::shared_ptr<RunTime> run_time;
  std::shared_ptr<PlanKnowledge> knowledge;
  JobSize size;
  uint64_t expected_ns = 0;              // 0: nobody knows.
  uint64_t deadline_ns = sched::kNever;  // If it cannot end by then, it does not run.
  uint64_t doubted_ns = 0;               // What it is expected to take, where that may refuse it.
  JobPhase phase = JobPhase::kUnknown;   // as its plan shows
  uint64_t staged_bytes = 0;             // Upload bytes that are free again when the job has ended.
  uint64_t inline_bytes = 0;             // of work.inline_uploads
};

// Something the session should hear: an answer, the end of a job, or both.
struct Report {
  SessionId session;
  JobId job;
  uint32_t answer = graph::kNone;  // kNone: the job ended, and its last answer did not say so.
  bool finished = false;           // The job has ended.
  uint64_t staged_bytes = 0;       // Of the Task; only if finished.
  uint64_t inline_bytes = 0;       // Likewise.
  Result<Answer> bytes;
};

}  // namespace djinn::server
