// SPDX-License-Identifier: Apache-2.0
// CPU backend: the host's cores and memory as a device with a budget.
//
// Threading: any thread; `enter` gives the calling thread the configured number of threads.
#pragma once

#include <memory>

#include "server/torch/backend.h"
#include "server/torch/cpu_device.h"

namespace djinn::server {

[[nodiscard]] std::unique_ptr<Backend> make_cpu_backend(const CpuDeviceOptions& options);

}  // namespace djinn::server
