// SPDX-License-Identifier: Apache-2.0
// CPU device: runs operators on this machine's cores.
//
// Ownership: the caller's. There is one budget per process: a second device shares it.
#pragma once

#include <cstdint>
#include <memory>

#include "server/executor.h"

namespace djinn::server {

struct CpuDeviceOptions {
  uint64_t memory_budget_bytes = 0;  // 0: no limit
  int threads = 1;                   // within an operator
};

[[nodiscard]] std::unique_ptr<Device> make_cpu_device(const CpuDeviceOptions& options);

}  // namespace djinn::server
