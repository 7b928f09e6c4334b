// SPDX-License-Identifier: Apache-2.0
// Chunk: how long a job goes on before the scheduler is asked again.
//
// Why it looks first whether anybody else waits: a session that is alone pays one load per
// operator, and no clock. A job gives way between two operators only.
// Ownership: borrows the flag. Threading: the thread that runs the job; others set the flag.
#pragma once

#include <atomic>
#include <cstdint>

#include "server/clock.h"

namespace djinn::server {

class Chunk {
 public:
  // The whole job.
  Chunk() = default;
  // It may end after `length_ns`, once `others` is true.
  Chunk(const std::atomic<bool>& others, uint64_t begin_ns, uint64_t length_ns)
      : others_(&others), until_ns_(begin_ns + length_ns) {}

  // Asked between two operators: the job gives way here.
  [[nodiscard]] bool over() const {
    return others_ != nullptr && others_->load(std::memory_order_relaxed) && now_ns() >= until_ns_;
  }

 private:
  const std::atomic<bool>* others_ = nullptr;
  uint64_t until_ns_ = 0;
};

}  // namespace djinn::server
