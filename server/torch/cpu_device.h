// SPDX-License-Identifier: Apache-2.0
// CPU device: runs operators on this machine's cores.
//
// Ownership: the caller's. There is one budget per process: a second device shares it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/executor.h"

namespace djinn::server {

struct CpuDeviceOptions {
  uint64_t memory_budget_bytes = 0;    // 0: no limit
  int threads = 1;                     // within an operator
  uint64_t tenant_budget_bytes = 0;    // of the device, for each tenant; 0: no limit
  bool tenants_limited = false;        // Some have limits of their own.
  uint64_t host_budget_bytes = 0;      // for what leaves the device; 0: no limit
  std::string memory_policy = "plan";  // one of policy_names()
  uint64_t link_bytes_per_second = 0;  // An emulated link between the two; 0: as fast as it goes.
};

[[nodiscard]] std::unique_ptr<Device> make_cpu_device(const CpuDeviceOptions& options);

}  // namespace djinn::server
