// SPDX-License-Identifier: Apache-2.0
// Chunk: how long a job goes on before the scheduler is asked again.
//
// Why it looks first whether anybody else waits: a session that is alone pays one load per
// operator, and no clock. A job gives way between two operators only, so the longest of them is
// the *preemption floor*: how long an urgent job may wait beyond a chunk. It is found by timing the
// operators of one run in sixteen of a plan, and those that end while somebody waits.
// Ownership: borrows the flag. Threading: the thread that runs the job; others set the flag.
#pragma once

#include <atomic>
#include <cstdint>

#include "serialization/graph/plan.h"
#include "server/clock.h"

namespace djinn::server {

class Chunk {
 public:
  struct Times {
    uint64_t begin_ns = 0;
    uint64_t length_ns = 0;  // It may end after so long.
    bool timed = false;      // Every operator is.
  };
  // The whole job.
  Chunk() = default;
  // Until `others` is true and it is long enough. Null: the whole job.
  Chunk(const std::atomic<bool>* others, const Times& times)
      : others_(others),
        until_ns_(times.begin_ns + times.length_ns),
        last_ns_(times.begin_ns),
        timed_(times.timed) {}

  // Asked behind each entry of the plan but the last: the job gives way here.
  [[nodiscard]] bool over(uint32_t entry) {
    const bool asked = others_ != nullptr && others_->load(std::memory_order_relaxed);
    if (asked || timed_) return look(entry) && asked;
    last_ns_ = 0;
    return false;
  }

  struct Longest {
    uint64_t ns = 0;  // 0: no operator was timed.
    uint32_t entry = graph::kNone;
  };
  [[nodiscard]] const Longest& longest() const { return longest_; }

 private:
  bool look(uint32_t entry) {
    const uint64_t now = now_ns();
    if (last_ns_ != 0 && now - last_ns_ > longest_.ns) longest_ = {now - last_ns_, entry};
    last_ns_ = now;
    return now >= until_ns_;
  }

  const std::atomic<bool>* others_ = nullptr;
  uint64_t until_ns_ = 0;
  uint64_t last_ns_ = 0;  // when the entry before ended; 0: nobody looked
  bool timed_ = false;
  Longest longest_;
};

}  // namespace djinn::server
