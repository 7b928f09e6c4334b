// SPDX-License-Identifier: Apache-2.0
// Plugin: the library that holds a device djinn-server cannot link, because it needs a driver and
// gigabytes of libraries that most machines lack.
//
// Server and plugin share C++ types (Backend, Result), so both must be of one build: the function
// that the plugin exports is C, and what it returns says which build it is before anything of C++
// is touched. The first three fields never move.
// Ownership: static data of the plugin, which is never unloaded. Threading: constant.
#pragma once

#include <cstdint>
#include <memory>

#include "serialization/base/result.h"
#include "server/torch/backend.h"

namespace djinn::server {

struct PluginOptions {
  int device_index = 0;
  uint64_t memory_budget_bytes = 0;  // 0: no limit
};

inline constexpr uint32_t kPluginMagic = 0x6e6a6a64;  // "djjn"
inline constexpr uint32_t kPluginVersion = 1;         // of this struct

struct DevicePlugin {
  uint32_t magic = kPluginMagic;
  uint32_t version = kPluginVersion;
  uint32_t bytes = sizeof(DevicePlugin);
  uint32_t reserved = 0;
  // The headers that both sides were compiled with, the compiler and LibTorch: the same text, or
  // their types may differ.
  const char* build = nullptr;
  // An Error is one sentence: what is missing, and its cure.
  Result<std::unique_ptr<Backend>> (*open)(const PluginOptions& options) = nullptr;
};

inline constexpr const char* kPluginFunction = "djinn_device_plugin";
using PluginFunction = const DevicePlugin* (*)();

}  // namespace djinn::server
