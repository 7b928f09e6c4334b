// SPDX-License-Identifier: Apache-2.0
// SessionHints: what a session's app has said of it, for whoever decides what runs and what stays.
//
// A hint is the app's word and nothing more: it moves the session among its tenant's own, and never
// above what the tenant may have. Threading: a plain value.
#pragma once

#include <cstdint>

#include "scheduler/job.h"
#include "serialization/base/hints.h"

namespace djinn::sched {

struct SessionHints {
  JobPhase phase = JobPhase::kUnknown;  // kUnknown: as plans show.
  Urgency urgency = Urgency::kUnknown;  // kUnknown: as the tenant's terms say.
  Rest rest = Rest::kNone;              // kNone again with the next job.
  uint64_t resume_ns = 0;               // of kUntil: when it goes on, on the server's clock
  uint64_t deadline_ns = 0;             // A job's results are worth nothing so long after it came;
                                        // 0: they always are worth something.
};

// What a job wants to be: as its app says; else by what it is, as its app says or else its plan
// shows. Somebody waits for each token of a decoder, and nobody for a step of a training.
[[nodiscard]] constexpr Class class_of(const SessionHints& hints, JobPhase shown) {
  if (hints.urgency != Urgency::kUnknown) {
    return static_cast<Class>(static_cast<uint8_t>(hints.urgency) - 1);
  }
  switch (hints.phase != JobPhase::kUnknown ? hints.phase : shown) {
    case JobPhase::kDecode:
      return Class::kLatencyCritical;
    case JobPhase::kTraining:
      return Class::kBestEffort;
    default:
      return Class::kInteractive;
  }
}

}  // namespace djinn::sched
