// SPDX-License-Identifier: Apache-2.0
// Driver: many sessions that play traces against one server, from one thread.
//
// Closed: each of a part's sessions plays again and again. Open (`rate`): plays fall due at random
// moments, whatever the server does, and wait for a session if all are taken; their latencies count
// from when they were due.
// Ownership: borrows the traces. Threading: a call, on one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"
#include "trace/tally.h"
#include "trace/trace.h"

namespace djinn::trace {

// Sessions of one tenant that play one trace.
struct Part {
  const Trace* trace = nullptr;
  std::string token = {};       // Empty: anonymous.
  uint32_t sessions = 1;        // at most; each a connection
  double rate = 0;              // plays per second that fall due; 0: closed
  uint64_t plays = UINT64_MAX;  // in total
  uint32_t deadline_ms = 0;     // of each job, from when the server gets it; 0: none
  bool background = false;      // Goes on only until the others have ended, and is cut off then.
};

struct Load {
  transport::Address server = {};
  std::vector<Part> parts = {};
  double seconds = 0;   // What is not finished then is cut off. 0: until all plays are done.
  uint32_t active = 0;  // So many sessions go on at a time, when all are connected. 0: all.
  uint32_t turn = 8;    // An active session rests after so many answers.
  bool compare = true;
  uint64_t seed = 1;  // of the moments at which plays fall due
  // Called once, when all sessions of a load with `active` are connected.
  std::function<void()> connected = [] {};
};

struct Outcome {
  double seconds = 0;
  std::vector<Tally> parts;
  uint32_t sessions_most = 0;  // connected at a time
};

// An Error: nothing could be played. What went wrong in plays is in their tallies.
Result<Outcome> drive(const Load& load);

}  // namespace djinn::trace
