// SPDX-License-Identifier: Apache-2.0
// Deadline: what an app is told of a job that could not end in time, and so does not run.
//
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <memory>

#include "serialization/base/result.h"

namespace djinn::server {

// Why a job that comes would be late.
struct Late {
  uint64_t wait_ns = 0;         // for what is ahead of it
  uint64_t expected_ns = 0;     // of device time; 0: nobody knows
  uint64_t deadline_ns = 0;     // from its arrival on
  uint32_t retry_after_ms = 0;  // There is no place for it until then; 0: there is.
  bool rate = false;            // for its tenant's device time; else since the queue is full
};

// As Work::refused: code kDeadline, and when to come again.
[[nodiscard]] std::shared_ptr<const Error> too_late(const Late& late);
// The same for one that was let in, and others took longer than was expected.
[[nodiscard]] std::shared_ptr<const Error> late_at_its_turn(uint64_t expected_ns,
                                                            uint64_t deadline_ns, uint64_t now_ns);

}  // namespace djinn::server
