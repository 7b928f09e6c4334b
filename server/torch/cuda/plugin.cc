// SPDX-License-Identifier: Apache-2.0
// The one symbol that djinn_cuda.so exports.
#include "server/torch/plugin.h"

#include "server/torch/cuda/cuda_backend.h"

extern "C" __attribute__((visibility("default"))) const djinn::server::DevicePlugin*
djinn_device_plugin() {
  static constexpr djinn::server::DevicePlugin kPlugin{
      .build = DJINN_PLUGIN_BUILD, .open = &djinn::server::cuda::make_cuda_backend};
  return &kPlugin;
}
