// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cpu_device.h"

#include "server/torch/cpu_backend.h"
#include "server/torch/torch_device.h"

namespace djinn::server {

std::unique_ptr<Device> make_cpu_device(const CpuDeviceOptions& options) {
  return make_torch_device("cpu", make_cpu_backend(options));
}

}  // namespace djinn::server
