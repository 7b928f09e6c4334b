// SPDX-License-Identifier: Apache-2.0
// RunQueue: whose job runs next. Sessions that have jobs take turns; one session's jobs run in
// order.
//
// Why so small: no clock, lock, thread or job in it, so fairness is a loop in a test. Priorities,
// quotas and deadlines will come as other policies behind the same questions.
// Threading: plain value; the owner locks.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <unordered_map>

#include "serialization/base/ids.h"

namespace djinn::sched {

class RunQueue {
 public:
  // One more job of this session waits.
  void add(SessionId session);

  // The session whose oldest job runs now. It gets no further turn until `done`.
  std::optional<SessionId> take();
  void done(SessionId session);

  // A paused session keeps its jobs and gets no turn.
  void pause(SessionId session, bool paused);

  // Forgets the session; its jobs are the caller's to drop.
  void remove(SessionId session);

  [[nodiscard]] bool ready() const { return !turns_.empty(); }
  [[nodiscard]] size_t waiting(SessionId session) const;
  [[nodiscard]] size_t waiting() const { return waiting_; }

 private:
  struct Entry {
    size_t waiting = 0;
    bool running = false;
    bool paused = false;
    bool has_turn = false;  // It stands in turns_.
  };
  void line_up(SessionId session, Entry& entry);
  void leave_line(SessionId session, Entry& entry);

  std::unordered_map<SessionId, Entry> entries_;
  std::deque<SessionId> turns_;
  size_t waiting_ = 0;
};

}  // namespace djinn::sched
