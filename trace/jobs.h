// SPDX-License-Identifier: Apache-2.0
// Jobs: what a trace's jobs are without the history of the session that said them: their plans and
// all their numbers. So they can be said again to a server that has forgotten both.
//
// Ownership: owns plans and numbers. Threading: immutable.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/graph/numbers.h"
#include "serialization/graph/plan.h"

namespace djinn::trace {

struct Said;

struct SpokenJob {
  size_t said = 0;  // where it is in what the trace says
  graph::PlanHash hash;
  std::shared_ptr<const graph::ByteString> structure;
  graph::SharedNumbers numbers;
};

// The n-th is job n + 1. kInvalid names the job whose plan or numbers are not what a client says;
// a server would not have understood it either.
Result<std::vector<SpokenJob>> understand(std::span<const Said> said);

}  // namespace djinn::trace
