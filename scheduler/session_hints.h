// SPDX-License-Identifier: Apache-2.0
// SessionHints: what a session's app has said of it, for whoever decides what runs and what stays.
//
// A hint is the app's word and nothing more: it moves the session among its tenant's own, and never
// above what the tenant may have. Threading: a plain value.
#pragma once

#include <cstdint>

#include "serialization/base/hints.h"

namespace djinn::sched {

struct SessionHints {
  JobPhase phase = JobPhase::kUnknown;  // kUnknown: as plans show.
  Urgency urgency = Urgency::kUnknown;  // kUnknown: as the tenant's terms say.
  Rest rest = Rest::kNone;              // kNone again with the next job.
  uint64_t resume_ns = 0;               // of kUntil: when it goes on, on the server's clock
};

}  // namespace djinn::sched
