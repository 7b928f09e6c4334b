// SPDX-License-Identifier: Apache-2.0
// Plan reader: a structure's bytes into a Plan, trusting none of them.
//
// Threading: a pure function.
#pragma once

#include "serialization/graph/plan.h"

namespace djinn::graph {

// kInvalid names the first thing that is wrong and where. What comes back keeps every bound of
// limits.h, every index in it is in range, and slots appear in the order of their first use; the
// numbers it will be used with are checked by whoever uses them.
Result<Plan> read_plan(ByteSpan structure);

}  // namespace djinn::graph
