// SPDX-License-Identifier: Apache-2.0
// Special kernels: operators that a client records but that LibTorch has no kernel for.
//
// Those of the CPU do what LibTorch does there instead, so that the bits are those of a local run.
// Those of other devices are made of operators that every device has; the fused attention of a GPU
// takes other arguments and returns other statistics than the one that was recorded.
// Threading: any thread.
#pragma once

#include <string_view>

#include "server/torch/operator_table.h"

namespace djinn::server {

// Null: the dispatcher's own kernel serves.
[[nodiscard]] Kernel cpu_kernel_of(std::string_view name);
[[nodiscard]] Kernel device_kernel_of(std::string_view name);

}  // namespace djinn::server
