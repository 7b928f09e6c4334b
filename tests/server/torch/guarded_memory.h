// SPDX-License-Identifier: Apache-2.0
// Guarded memory: an allocator for tests whose blocks end where a forbidden page begins, so that a
// kernel that reads or writes one element too far is caught at once.
// Threading: any thread.
#pragma once

#include <c10/core/Allocator.h>

namespace djinn::server {

// Takes LibTorch's CPU allocator's place for the rest of the process. Blocks of more than
// `bytes_max` are refused.
void guard_memory(size_t bytes_max);

}  // namespace djinn::server
