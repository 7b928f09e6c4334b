// SPDX-License-Identifier: Apache-2.0
// CUDA device: a GPU of this machine, through the plugin in server/torch/cuda.
//
// Ownership: the caller's. Threading: made before any other thread uses LibTorch, and before its
// first operator: LibTorch asks once whether it has CUDA.
#pragma once

#include <cstdint>
#include <memory>

#include "server/executor.h"

namespace djinn::server {

struct CudaDeviceOptions {
  int index = 0;
  uint64_t memory_budget_bytes = 0;  // 0: no limit
};

// An Error is one sentence: what is missing, and its cure. kNotFound: there is no such GPU, or no
// plugin in this build.
Result<std::unique_ptr<Device>> make_cuda_device(const CudaDeviceOptions& options);

}  // namespace djinn::server
