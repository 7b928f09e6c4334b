// SPDX-License-Identifier: Apache-2.0
// Gathering: whether the device should rest a moment, because sessions that ran a step together
// with who waits now will be back soon.
//
// Why: a program that decodes asks for its next step when it has the answer of the last. All of a
// company get theirs at the same time, and whoever is first would begin alone, a step ahead of the
// others for ever: K sessions would never run together. So who waits is held for those who usually
// come back within half a step, and for half a step at most: then even two tokens are there sooner
// than if one step followed the other. Whoever is usually later is not waited for. Whoever pauses
// instead is not until it has come back that soon for two steps, and each time it happens again for
// twice as many, up to 32; as many without it make up for that.
// Ownership: owns what it notes, a few words per session. Threading: plain value; the owner locks.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "serialization/base/ids.h"

namespace djinn::server {

class Gathering {
 public:
  static constexpr uint64_t kWaitMaxNs = 50'000'000;

  // A step of the company, which took so long, has ended, and the session has no other job yet.
  void ended(SessionId session, uint64_t company, uint64_t step_ns, uint64_t now_ns);
  // A job of it has come.
  void came(SessionId session, uint64_t now_ns);
  void gone(SessionId session) { mates_.erase(session); }
  // Only jobs of this company wait: until when they should. 0: they run now.
  [[nodiscard]] uint64_t wait_until(uint64_t company, uint64_t now_ns);
  // Somebody has a turn.
  void began() { since_ns_ = 0; }

 private:
  struct Mate {
    uint64_t company = 0;
    uint64_t step_ns = 0;
    uint64_t ended_ns = 0;  // 0: it has come since.
    uint64_t gap_ns = 0;    // So long after a step its next one has come lately.
    uint32_t owed = 0;      // So many times it must be quick before it is waited for.
    uint32_t penalty = 1;   // Half of what it will owe for another pause.
    uint32_t kept = 0;      // So many times it was quick since it owes nothing.
    bool expected = false;
    bool in_vain = false;  // It was, and did not come in time.
  };
  std::unordered_map<SessionId, Mate> mates_;
  uint64_t since_ns_ = 0;  // 0: nobody is held.
};

}  // namespace djinn::server
