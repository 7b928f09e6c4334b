// SPDX-License-Identifier: Apache-2.0
#include "server/settings/tenants.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <sstream>

#include "server/settings/byte_size.h"
#include "server/settings/toml_file.h"

namespace djinn::server {
namespace {

constexpr double kWeightMin = 0.001;
constexpr double kWeightMax = 1000;
constexpr double kNsPerMs = 1e6;
constexpr int64_t kCountMax = 1'000'000;
constexpr size_t kNameBytesMax = 256;

Error wrong(const std::string& why) { return {ErrorCode::kInvalid, why}; }

Result<> read_weight(const toml::node& node, TenantSettings& out) {
  const auto number = node.is_number() ? node.value<double>() : std::nullopt;
  if (!number || !std::isfinite(*number) || *number < kWeightMin || *number > kWeightMax) {
    return wrong("is no number from 0.001 to 1000");
  }
  out.terms.weight = *number;
  return Unit{};
}

Result<> read_class(const toml::node& node, TenantSettings& out) {
  const auto text = node.value_exact<std::string>().value_or("");
  for (size_t i = 0; i < sched::kClasses; ++i) {
    const auto each = static_cast<sched::Class>(i);
    if (text != to_text(each)) continue;
    out.terms.ceiling = each;
    return Unit{};
  }
  return wrong("is none of \"latency-critical\", \"interactive\", \"best-effort\"");
}

Result<uint64_t> read_bytes(const toml::node& node) {
  const auto number = node.value_exact<int64_t>();
  if (number && *number >= 0) return static_cast<uint64_t>(*number);
  const auto text = node.value_exact<std::string>();
  if (!text) return wrong("is no size: write 1500000, \"512M\", \"2GiB\" or \"2GB\"");
  return parse_bytes(*text);
}

Result<> read_device_memory(const toml::node& node, TenantSettings& out) {
  DJINN_TRY(out.device_memory_bytes, read_bytes(node));
  return Unit{};
}

Result<> read_host_memory(const toml::node& node, TenantSettings& out) {
  DJINN_TRY(out.host_memory_bytes, read_bytes(node));
  return Unit{};
}

Result<uint32_t> read_count(const toml::node& node) {
  const auto number = node.value_exact<int64_t>();
  if (!number || *number < 1 || *number > kCountMax) return wrong("is no number from 1 to 1000000");
  return static_cast<uint32_t>(*number);
}

Result<> read_sessions(const toml::node& node, TenantSettings& out) {
  DJINN_TRY(out.sessions_max, read_count(node));
  return Unit{};
}

Result<> read_queue(const toml::node& node, TenantSettings& out) {
  DJINN_TRY(out.queue_max, read_count(node));
  return Unit{};
}

// A number of these, of which there are `least` to `most` per second.
Result<double> read_rate(const toml::node& node, double least, double most, const char* range) {
  const auto number = node.is_number() ? node.value<double>() : std::nullopt;
  if (number && std::isfinite(*number) && *number >= least && *number <= most) return *number;
  return wrong(std::string("is no number from ") + range);
}

Result<> read_device_time(const toml::node& node, TenantSettings& out) {
  DJINN_TRY(const double ms, read_rate(node, 1, 1000, "1 to 1000"));
  out.rates.device_ns = static_cast<uint64_t>(std::llround(ms * kNsPerMs));
  return Unit{};
}

Result<> read_bytes_rate(const toml::node& node, TenantSettings& out) {
  DJINN_TRY(out.rates.bytes, read_bytes(node));
  if (out.rates.bytes > 0) return Unit{};
  return wrong("lets nothing in: write a size, or leave it out");
}

Result<> read_requests(const toml::node& node, TenantSettings& out) {
  DJINN_TRY(out.rates.requests, read_rate(node, 0.01, 1e6, "0.01 to 1000000"));
  return Unit{};
}

struct Key {
  std::string_view name;
  Result<> (*read)(const toml::node& node, TenantSettings& out);
};
constexpr std::array<Key, 9> kKeys{{{"weight", read_weight},
                                    {"class", read_class},
                                    {"device-memory", read_device_memory},
                                    {"host-memory", read_host_memory},
                                    {"sessions", read_sessions},
                                    {"queue", read_queue},
                                    {"device-ms-per-second", read_device_time},
                                    {"bytes-per-second", read_bytes_rate},
                                    {"requests-per-second", read_requests}}};

Result<TenantSettings> read_tenant(const toml::table& table) {
  TenantSettings out;
  for (const auto& [key, node] : table) {
    const auto* const known = std::ranges::find(kKeys, key.str(), &Key::name);
    if (known == kKeys.end()) {
      std::string names;
      for (const Key& each : kKeys) names += (names.empty() ? "" : ", ") + std::string(each.name);
      return wrong("there is no \"" + std::string(key.str()) + "\" of a tenant; there are " +
                   names);
    }
    const auto read = known->read(node, out);
    if (!read) return wrong(std::string(known->name) + ": " + read.error().message);
  }
  return out;
}

// What read_tenant reads back.
toml::table to_table(const TenantSettings& tenant) {
  toml::table table{{"weight", tenant.terms.weight},
                    {"class", std::string(to_text(tenant.terms.ceiling))}};
  if (tenant.device_memory_bytes) {
    table.insert("device-memory", bytes_text(*tenant.device_memory_bytes));
  }
  if (tenant.host_memory_bytes > 0) {
    table.insert("host-memory", bytes_text(tenant.host_memory_bytes));
  }
  const Rates& rates = tenant.rates;
  if (rates.device_ns > 0) {
    table.insert("device-ms-per-second", static_cast<double>(rates.device_ns) / kNsPerMs);
  }
  if (rates.bytes > 0) table.insert("bytes-per-second", bytes_text(rates.bytes));
  if (rates.requests > 0) table.insert("requests-per-second", rates.requests);
  if (tenant.queue_max > 0) table.insert("queue", int64_t{tenant.queue_max});
  if (tenant.sessions_max > 0) table.insert("sessions", int64_t{tenant.sessions_max});
  return table;
}

// The keys of `changes` have their new values, and the others what they had.
Result<TenantSettings> changed(const TenantSettings& was, const toml::table& changes) {
  toml::table table = to_table(was);
  for (const auto& [key, node] : changes) {
    if (node.value_exact<std::string>() == "default") {
      const bool known = std::ranges::find(kKeys, key.str(), &Key::name) != kKeys.end();
      if (known) {
        table.erase(key);
        continue;
      }
    }
    table.insert_or_assign(key, node);
  }
  return read_tenant(table);
}

// Each table of tenants in a text, with its name and a text for errors.
using Visit = std::function<Result<>(const std::string& name, const toml::table& table)>;
Result<> for_each_tenant(std::string_view text, const std::string& path, const Visit& visit) {
  DJINN_TRY(const auto table, parse_toml(text, path));
  const toml::node* const tenants = table.get("tenants");
  if (tenants == nullptr) return Unit{};
  if (!tenants->is_table()) {
    return wrong(path + ": tenants is no table: write [tenants.NAME] and its keys below");
  }
  for (const auto& [key, node] : *tenants->as_table()) {
    const std::string name(key.str());
    std::string where = path;
    where.append(": [tenants.").append(name).append("]: ");
    if (name.empty() || name.size() > kNameBytesMax) {
      return wrong(where + "a tenant's name has 1 to 256 bytes");
    }
    if (!node.is_table()) return wrong(where + "is no table: write [tenants.NAME] and its keys");
    const auto visited = visit(name, *node.as_table());
    if (!visited) return wrong(where + visited.error().message);
  }
  return Unit{};
}

}  // namespace

Result<TenantTable> tenants_from_toml(std::string_view text, const std::string& path) {
  TenantTable out;
  DJINN_CHECK(for_each_tenant(
      text, path, [&out](const std::string& name, const toml::table& table) -> Result<> {
        DJINN_TRY(out[name], read_tenant(table));
        return Unit{};
      }));
  return out;
}

Result<TenantTable> changed_tenants(TenantTable tenants, std::string_view changes) {
  size_t tables = 0;
  DJINN_CHECK(for_each_tenant(
      changes, "change",
      [&tenants, &tables](const std::string& name, const toml::table& table) -> Result<> {
        ++tables;
        DJINN_TRY(tenants[name], changed(tenants[name], table));
        return Unit{};
      }));
  if (tables > 0) return tenants;
  return wrong("change: there is no [tenants.NAME]");
}

std::string to_toml(const TenantTable& tenants) {
  if (tenants.empty()) return {};
  toml::table tables;
  for (const auto& [name, tenant] : tenants) tables.insert(name, to_table(tenant));
  std::ostringstream out;
  out << toml::table{{"tenants", std::move(tables)}} << "\n";
  return out.str();
}

Result<> check_tenants(const TenantTable& tenants, uint64_t tenant_memory_bytes) {
  for (const auto& [name, tenant] : tenants) {
    const uint64_t host = tenant.host_memory_bytes;
    const uint64_t device = tenant.device_memory_bytes.value_or(tenant_memory_bytes);
    if (host == 0 || device <= host) continue;
    return wrong("[tenants." + name + "]: host-memory: " + bytes_text(host) + " is less than the " +
                 bytes_text(device) +
                 " that it may have of the device, and all of that may have to leave: raise it, "
                 "or lower device-memory");
  }
  return Unit{};
}

}  // namespace djinn::server
