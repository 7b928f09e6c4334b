// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cuda_device.h"

#include <string>
#include <utility>

#include "server/torch/cuda_probe.h"
#include "server/torch/plugin_loader.h"
#include "server/torch/torch_device.h"

namespace djinn::server {

Result<std::unique_ptr<Device>> make_cuda_device(const CudaDeviceOptions& options) {
  DJINN_CHECK(probe_cuda(options.index));
  DJINN_TRY(const DevicePlugin* const plugin, load_plugin(plugin_path("djinn_cuda.so")));
  DJINN_TRY(auto backend, plugin->open({.device_index = options.index,
                                        .memory_budget_bytes = options.memory_budget_bytes}));
  return make_torch_device(std::string("cuda:") + std::to_string(options.index),
                           std::move(backend));
}

}  // namespace djinn::server
