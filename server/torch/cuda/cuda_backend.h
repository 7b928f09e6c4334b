// SPDX-License-Identifier: Apache-2.0
// CUDA backend: a GPU as a device with a budget.
//
// Threading: as backend.h says. One per process: the allocator's budget and tracker are the
// process's.
#pragma once

#include <memory>

#include "server/torch/plugin.h"

namespace djinn::server::cuda {

// An Error is one sentence: what is wrong with this GPU or its driver, and the cure.
Result<std::unique_ptr<Backend>> make_cuda_backend(const PluginOptions& options);

}  // namespace djinn::server::cuda
