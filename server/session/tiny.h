// SPDX-License-Identifier: Apache-2.0
// Tiny: is this job so short that a hand-over to another thread would cost more than running it?
//
// A guess from the plan's last run in this session. As a job that was guessed wrongly delays every
// session's frames, what its operands span must not have grown much since, and must be small for
// a plan that never ran. Threading: pure functions.
#pragma once

#include <cstdint>

#include "serialization/graph/plan.h"

namespace djinn::server {

inline constexpr uint64_t kTinyRunNs = 100'000;      // A plan that took less is tiny.
inline constexpr uint64_t kTinyElements = 16 << 10;  // Of a fetch that has not run yet.
inline constexpr size_t kTinyOperandsMax = 256;      // A plan with more is not tiny.

// `elements`: of all operands (PlanFacts::size). `last_ns`, `last_elements`: of the plan's last
// run; UINT64_MAX: it never ran.
[[nodiscard]] bool is_tiny(const graph::Plan& plan, uint64_t elements, uint64_t last_ns,
                           uint64_t last_elements);

}  // namespace djinn::server
