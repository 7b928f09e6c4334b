// SPDX-License-Identifier: Apache-2.0
// Settings: what an operator may choose, from flags, the environment and a file.
//
// A flag wins over DJINN_SERVER_*, that over the file, that over the default. Every setting has one
// name in all three: --device-memory, DJINN_SERVER_DEVICE_MEMORY, device-memory = "2GiB".
// Threading: plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"
#include "server/settings/tenants.h"

namespace djinn::server {

struct Settings {
  std::vector<transport::Address> listen;
  std::string device;                // "cpu", "cuda:0" or "auto"
  int threads = 0;                   // within an operator
  uint64_t device_memory_bytes = 0;  // 0: no limit
  uint64_t tenant_memory_bytes = 0;  // of the device, for each tenant; 0: no limit
  uint64_t host_memory_bytes = 0;    // for what leaves the device; 0: no limit
  std::string policy;                // one of sched::policy_names()
  uint64_t chunk_us = 0;             // A job gives way after so long; 0: never.
  uint64_t queue_max = 0;            // jobs that wait
  uint64_t lockstep = 1;             // So many jobs run together at most; 1: each runs alone.
  std::string memory_policy;         // one of policy_names()
  uint64_t link_rate_bytes = 0;      // per second; 0: as fast as it goes
  uint64_t artifact_cache_bytes = 0;
  std::string cache_dir;  // Empty: nothing is written.
  uint64_t disk_cache_bytes = 0;
  std::vector<std::string> model_dirs;  // folders of .safetensors files
  std::vector<std::string> pins;        // files of these, as they are called below the folder
  std::string log_level;
  bool allow_anonymous = false;
  std::string token_file;                     // Empty: there are no tokens.
  std::string port_file;                      // Empty: none is written.
  std::optional<transport::Address> admin;    // a unix socket
  std::optional<transport::Address> metrics;  // over TCP
  TenantTable tenants;                        // Of the file only: neither flag nor variable.
};

// One source's settings: name -> values, as text.
using Layer = std::map<std::string, std::vector<std::string>, std::less<>>;

struct SettingInfo {
  const char* name;   // "device-memory"
  const char* value;  // "SIZE"; null: a switch
  const char* help;
  bool list = false;  // May be given several times.
};
[[nodiscard]] const std::vector<SettingInfo>& setting_infos();

// DJINN_SERVER_LISTEN and so on; the values of a list are separated by commas.
using GetEnv = std::function<const char*(const char*)>;
[[nodiscard]] Layer settings_from_environment(const GetEnv& get);
// kInvalid names the line, or the key that is unknown. Its tables of tenants are
// tenants_from_toml's.
Result<Layer> settings_from_toml(std::string_view text, const std::string& path);

// The first layer wins. kInvalid names the setting and what it accepts. No layer has tenants.
Result<Settings> resolve(const std::vector<Layer>& layers);

// What settings_from_toml reads back.
[[nodiscard]] std::string to_toml(const Settings& settings);

}  // namespace djinn::server
