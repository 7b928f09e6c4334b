// SPDX-License-Identifier: Apache-2.0
// Index checks: what GPU kernels assert about values while they run.
//
// Why they are repeated here: on the CPU a wrong index is an exception, on a GPU it is a failed
// assertion on the device, after which the process can use that device no more - one session's
// mistake would end all others. A check reads its answer back, so it waits for what computed the
// index; only these operators pay for it.
// Threading: pure functions.
#pragma once

#include <string_view>

#include "server/torch/operator_table.h"

namespace djinn::server {

// Null: the operator's kernel asserts nothing about values.
[[nodiscard]] Check index_check_of(std::string_view name);

}  // namespace djinn::server
