// SPDX-License-Identifier: Apache-2.0
// A job that was sent and has not ended: all that is needed to send it again after a resync.
// Threading: the session's turn.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "client/session/session.h"

namespace djinn::client {

struct Session::InFlight : std::enable_shared_from_this<Session::InFlight> {
  uint32_t job = 0;
  uint32_t entries = 0;
  graph::PlanHash hash;
  std::shared_ptr<const graph::ByteString> structure;
  graph::SharedNumbers numbers;
  std::vector<uint64_t> inline_uploads;
  uint64_t staged_bytes = 0;  // of the uploads that it consumes
  std::vector<PendingAnswer*> answers;
  std::shared_ptr<const codec::Message> hint;  // goes before it, the first time
  std::deque<PendingAnswer> abandoned;         // Stand in for answers whose wait was cancelled.
};

}  // namespace djinn::client
