// SPDX-License-Identifier: Apache-2.0
// Special kernels: operators that a client records but that LibTorch has no kernel for on the CPU.
//
// Each does what LibTorch does on the CPU instead, so that the bits are those of a local run.
// Threading: any thread.
#pragma once

#include <string_view>

#include "server/torch/operator_table.h"

namespace djinn::server {

// Null: the dispatcher's own kernel serves.
[[nodiscard]] Kernel cpu_kernel_of(std::string_view name);

}  // namespace djinn::server
