// SPDX-License-Identifier: Apache-2.0
// Rests: which sessions pause, what belongs to them, and when it is to be on the device again.
//
// Buffers are named by number, so that one that dies meanwhile is nobody's concern.
// Ownership: nothing but numbers. Threading: a plain value; the owner locks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace djinn::server {

inline constexpr uint64_t kNoTime = std::numeric_limits<uint64_t>::max();

// One per session that said when it goes on.
struct SessionRest {
  uint64_t session = 0;
  uint64_t begin_ns = 0;   // when to begin to bring the buffers back
  uint64_t resume_ns = 0;  // when the session goes on
  std::vector<uint64_t> buffers;
};

class Rests {
 public:
  // In place of what the session said before.
  void put(SessionRest rest) {
    end(rest.session);
    rests_.push_back(std::move(rest));
  }
  void end(uint64_t session) {
    std::erase_if(rests_, [&](const SessionRest& each) { return each.session == session; });
  }
  // One whose time has come; it is forgotten here.
  std::optional<SessionRest> take_due(uint64_t now_ns) {
    for (size_t i = 0; i < rests_.size(); ++i) {
      if (rests_[i].begin_ns > now_ns) continue;
      std::swap(rests_[i], rests_.back());
      SessionRest due = std::move(rests_.back());
      rests_.pop_back();
      return due;
    }
    return std::nullopt;
  }
  // When the next one is due; kNoTime: there is none.
  [[nodiscard]] uint64_t next_ns() const {
    uint64_t next = kNoTime;
    for (const SessionRest& each : rests_) next = std::min(next, each.begin_ns);
    return next;
  }

 private:
  std::vector<SessionRest> rests_;
};

}  // namespace djinn::server
