// SPDX-License-Identifier: Apache-2.0
#include "server/settings/settings.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <sstream>
#include <thread>

#include "scheduler/policy.h"
#include "serialization/base/limits.h"
#include "server/memory/policy.h"
#include "server/settings/byte_size.h"
#include "server/settings/toml_file.h"

namespace djinn::server {
namespace {

constexpr const char* kDefaultListen = "tcp://127.0.0.1:7400";
constexpr uint64_t kDefaultArtifactCacheBytes = uint64_t{4} << 30;
constexpr uint64_t kDefaultDiskCacheBytes = uint64_t{16} << 30;
constexpr int kThreadsMax = 4096;
constexpr uint64_t kQueueMax = 1'000'000;
constexpr uint64_t kChunkMaxUs = 1'000'000;

Error wrong(std::string_view name, const std::string& why) {
  return {ErrorCode::kInvalid, std::string(name) + ": " + why};
}

// The values of a setting in the first layer that has it.
const std::vector<std::string>* find(const std::vector<Layer>& layers, std::string_view name) {
  for (const Layer& layer : layers) {
    if (const auto at = layer.find(name); at != layer.end() && !at->second.empty()) {
      return &at->second;
    }
  }
  return nullptr;
}

std::string text_or(const std::vector<Layer>& layers, std::string_view name,
                    std::string_view fallback) {
  const auto* const values = find(layers, name);
  return values == nullptr ? std::string(fallback) : values->back();
}

Result<bool> parse_switch(std::string_view name, const std::string& text) {
  if (text == "true" || text == "1" || text == "yes") return true;
  if (text == "false" || text == "0" || text == "no" || text.empty()) return false;
  return wrong(name, "\"" + text + "\" is neither true nor false");
}

template <typename Number>
Result<Number> parse_number(const char* name, const std::string& text, Number least, Number most) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) {
    return wrong(name, "\"" + text + "\" is no number from " + std::to_string(least) + " to " +
                           std::to_string(most));
  }
  return value;
}

Result<std::string> parse_device(const std::string& text) {
  const std::string_view cuda = "cuda:";
  const std::string_view index = std::string_view(text).substr(std::min(cuda.size(), text.size()));
  const bool numbered = text.starts_with(cuda) && !index.empty() && index.size() <= 3 &&
                        std::ranges::all_of(index, [](unsigned char c) { return std::isdigit(c); });
  if (text == "cpu" || text == "auto" || numbered) return text;
  return wrong("device", "\"" + text + "\" is none of cpu, cuda:0 (or another number), auto");
}

Result<std::string> parse_level(const std::string& text) {
  static constexpr std::array<std::string_view, 6> kLevels{"trace", "debug", "info",
                                                           "warn",  "error", "off"};
  if (std::ranges::find(kLevels, text) != kLevels.end()) return text;
  return wrong("log-level", "\"" + text + "\" is none of trace, debug, info, warn, error, off");
}

Result<uint64_t> bytes_or(const std::vector<Layer>& layers, std::string_view name,
                          uint64_t fallback) {
  const auto* const values = find(layers, name);
  if (values == nullptr) return fallback;
  auto bytes = parse_bytes(values->back());
  if (!bytes) return wrong(name, bytes.error().message);
  return bytes;
}

std::optional<std::string> text_of(const toml::node& node) {
  if (auto text = node.value_exact<std::string>()) return text;
  if (const auto number = node.value_exact<int64_t>()) return std::to_string(*number);
  if (const auto flag = node.value_exact<bool>()) return *flag ? "true" : "false";
  return std::nullopt;
}

uint64_t half_of_the_machine() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) / 2;
}

// Empty: none.
Result<std::optional<transport::Address>> address_or_none(const std::vector<Layer>& layers,
                                                          std::string_view name,
                                                          transport::Address::Kind kind) {
  const std::string text = text_or(layers, name, "");
  if (text.empty()) return std::nullopt;
  auto address = transport::parse_address(text);
  if (address && address->kind == kind) return address;
  const bool local = kind == transport::Address::Kind::kUnix;
  return wrong(name,
               "\"" + text + "\" is no " +
                   (local ? "unix socket: write unix:///path" : "port: write tcp://host:port"));
}

Result<std::string> parse_policy(const std::string& text) {
  DJINN_TRY([[maybe_unused]] const auto policy, make_policy(text));
  return text;
}

Result<std::string> parse_scheduling(const std::string& text) {
  const auto policy = sched::make_policy(text);
  if (policy) return text;
  return wrong("policy", policy.error().message);
}

}  // namespace

Layer settings_from_environment(const GetEnv& get) {
  Layer layer;
  for (const SettingInfo& info : setting_infos()) {
    std::string name = std::string("DJINN_SERVER_") + info.name;
    std::ranges::transform(name, name.begin(), [](unsigned char c) {
      return c == '-' ? '_' : static_cast<char>(std::toupper(c));
    });
    const char* const value = get(name.c_str());
    if (value == nullptr) continue;
    std::istringstream parts(value);
    for (std::string part; std::getline(parts, part, info.list ? ',' : '\n');) {
      layer[info.name].push_back(part);
    }
  }
  return layer;
}

Result<Layer> settings_from_toml(std::string_view text, const std::string& path) {
  Layer layer;
  DJINN_TRY(const auto table, parse_toml(text, path));
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (name == "tenants") continue;
    const auto& infos = setting_infos();
    if (std::ranges::none_of(infos, [&](const SettingInfo& info) { return name == info.name; })) {
      return wrong(path, "there is no setting \"" + name + "\"");
    }
    std::vector<std::string>& values = layer[name];
    bool good = true;
    const auto add = [&](const toml::node& item) {
      const auto value = text_of(item);
      good = good && value.has_value();
      if (value) values.push_back(*value);
    };
    if (const toml::array* const list = node.as_array()) {
      for (const toml::node& item : *list) add(item);
    } else {
      add(node);
    }
    if (!good)
      return wrong(path, name + " is neither a text, a number, a switch nor a list of texts");
  }
  return layer;
}

Result<Settings> resolve(const std::vector<Layer>& layers) {
  Settings out;
  const std::vector<std::string> fallback{kDefaultListen};
  const auto* const listen = find(layers, "listen");
  for (const std::string& text : listen == nullptr ? fallback : *listen) {
    auto address = transport::parse_address(text);
    if (!address) return wrong("listen", address.error().message);
    out.listen.push_back(std::move(*address));
  }
  DJINN_TRY(out.device, parse_device(text_or(layers, "device", "auto")));
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  DJINN_TRY(out.threads, parse_number("threads", text_or(layers, "threads", std::to_string(cores)),
                                      1, kThreadsMax));
  DJINN_TRY(out.device_memory_bytes, bytes_or(layers, "device-memory", 0));
  DJINN_TRY(out.tenant_memory_bytes, bytes_or(layers, "tenant-memory", 0));
  DJINN_TRY(out.host_memory_bytes, bytes_or(layers, "host-memory", half_of_the_machine()));
  DJINN_TRY(out.policy, parse_scheduling(text_or(layers, "policy", "semantic")));
  DJINN_TRY(out.queue_max,
            parse_number("queue", text_or(layers, "queue", "16384"), uint64_t{1}, kQueueMax));
  DJINN_TRY(out.chunk_us, parse_number("chunk-us", text_or(layers, "chunk-us", "1000"), uint64_t{0},
                                       kChunkMaxUs));
  DJINN_TRY(out.lockstep, parse_number("lockstep", text_or(layers, "lockstep", "1"), uint64_t{1},
                                       uint64_t{kLockstepMax}));
  DJINN_TRY(out.memory_policy, parse_policy(text_or(layers, "memory-policy", "plan")));
  DJINN_TRY(out.link_rate_bytes, bytes_or(layers, "link-rate", 0));
  const uint64_t cache =
      out.device_memory_bytes == 0 ? kDefaultArtifactCacheBytes : out.host_memory_bytes / 2;
  DJINN_TRY(out.artifact_cache_bytes, bytes_or(layers, "artifact-cache", cache));
  out.cache_dir = text_or(layers, "cache-dir", "");
  DJINN_TRY(out.disk_cache_bytes, bytes_or(layers, "disk-cache", kDefaultDiskCacheBytes));
  if (const auto* const folders = find(layers, "model-dir")) out.model_dirs = *folders;
  if (const auto* const files = find(layers, "pin")) out.pins = *files;
  DJINN_TRY(out.log_level, parse_level(text_or(layers, "log-level", "info")));
  DJINN_TRY(out.allow_anonymous,
            parse_switch("allow-anonymous", text_or(layers, "allow-anonymous", "false")));
  out.token_file = text_or(layers, "token-file", "");
  out.port_file = text_or(layers, "port-file", "");
  DJINN_TRY(out.admin, address_or_none(layers, "admin", transport::Address::Kind::kUnix));
  DJINN_TRY(out.metrics, address_or_none(layers, "metrics", transport::Address::Kind::kTcp));
  return out;
}

std::string to_toml(const Settings& settings) {
  toml::array listen;
  for (const auto& address : settings.listen) listen.push_back(address.text());
  toml::array model_dirs;
  for (const auto& folder : settings.model_dirs) model_dirs.push_back(folder);
  toml::array pins;
  for (const auto& file : settings.pins) pins.push_back(file);
  const toml::table table{
      {"listen", listen},
      {"device", settings.device},
      {"threads", settings.threads},
      {"device-memory", bytes_text(settings.device_memory_bytes)},
      {"tenant-memory", bytes_text(settings.tenant_memory_bytes)},
      {"host-memory", bytes_text(settings.host_memory_bytes)},
      {"policy", settings.policy},
      {"chunk-us", std::to_string(settings.chunk_us)},
      {"queue", std::to_string(settings.queue_max)},
      {"lockstep", std::to_string(settings.lockstep)},
      {"memory-policy", settings.memory_policy},
      {"link-rate", bytes_text(settings.link_rate_bytes)},
      {"artifact-cache", bytes_text(settings.artifact_cache_bytes)},
      {"cache-dir", settings.cache_dir},
      {"disk-cache", bytes_text(settings.disk_cache_bytes)},
      {"model-dir", model_dirs},
      {"pin", pins},
      {"log-level", settings.log_level},
      {"allow-anonymous", settings.allow_anonymous},
      {"token-file", settings.token_file},
      {"port-file", settings.port_file},
      {"admin", settings.admin ? settings.admin->text() : ""},
      {"metrics", settings.metrics ? settings.metrics->text() : ""},
  };
  std::ostringstream out;
  out << table << "\n";
  const std::string tenants = to_toml(settings.tenants);
  if (!tenants.empty()) out << "\n" << tenants;
  return out.str();
}

}  // namespace djinn::server
