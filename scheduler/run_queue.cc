// SPDX-License-Identifier: Apache-2.0
#include "scheduler/run_queue.h"

#include <algorithm>
#include <cassert>

namespace djinn::sched {

void RunQueue::add(SessionId session) {
  Entry& entry = entries_[session];
  ++entry.waiting;
  ++waiting_;
  line_up(session, entry);
}

std::optional<SessionId> RunQueue::take() {
  if (turns_.empty()) return std::nullopt;
  const SessionId session = turns_.front();
  turns_.pop_front();
  Entry& entry = entries_.at(session);
  assert(entry.waiting > 0 && !entry.running && !entry.paused);
  entry.has_turn = false;
  entry.running = true;
  --entry.waiting;
  --waiting_;
  return session;
}

void RunQueue::done(SessionId session) {
  const auto at = entries_.find(session);
  if (at == entries_.end()) return;  // Removed while it ran.
  at->second.running = false;
  line_up(session, at->second);
}

void RunQueue::pause(SessionId session, bool paused) {
  Entry& entry = entries_[session];
  entry.paused = paused;
  if (paused) {
    leave_line(session, entry);
  } else {
    line_up(session, entry);
  }
}

void RunQueue::remove(SessionId session) {
  const auto at = entries_.find(session);
  if (at == entries_.end()) return;
  leave_line(session, at->second);
  waiting_ -= at->second.waiting;
  entries_.erase(at);
}

size_t RunQueue::waiting(SessionId session) const {
  const auto at = entries_.find(session);
  return at == entries_.end() ? 0 : at->second.waiting;
}

void RunQueue::line_up(SessionId session, Entry& entry) {
  if (entry.has_turn || entry.running || entry.paused || entry.waiting == 0) return;
  entry.has_turn = true;
  turns_.push_back(session);
}

void RunQueue::leave_line(SessionId session, Entry& entry) {
  if (!entry.has_turn) return;
  entry.has_turn = false;
  turns_.erase(std::find(turns_.begin(), turns_.end(), session));
}

}  // namespace djinn::sched
