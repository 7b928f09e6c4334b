// SPDX-License-Identifier: Apache-2.0
// Fake plugin: what a plugin of another build may say of itself; FAKE_VERSION, FAKE_BYTES and
// FAKE_BUILD are set where it is built.
#include "server/torch/plugin.h"

extern "C" __attribute__((visibility("default"))) const djinn::server::DevicePlugin*
djinn_device_plugin() {
  static constexpr djinn::server::DevicePlugin kPlugin{
      .version = FAKE_VERSION, .bytes = FAKE_BYTES, .build = FAKE_BUILD};
  return &kPlugin;
}
