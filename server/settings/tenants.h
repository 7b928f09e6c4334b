// SPDX-License-Identifier: Apache-2.0
// Tenants: what each may have of the server, as the tables [tenants.NAME] of its config file say.
//
// Who a tenant is, the token file says (access.h); a tenant without a table has the defaults.
// Threading: plain values and pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "scheduler/lane.h"
#include "serialization/base/result.h"
#include "server/session/rate_limits.h"

namespace djinn::server {

inline constexpr std::string_view kAnonymousTenant = "anonymous";  // Clients without a token.

struct TenantSettings {
  sched::Terms terms = {};  // `weight` and `class`
  // Bytes of the device. Nothing: as --tenant-memory says. 0: no limit.
  std::optional<uint64_t> device_memory_bytes = {};
  // For what leaves the device, which may be all that it has, so that it has no more; 0: no limit.
  uint64_t host_memory_bytes = 0;
  uint32_t sessions_max = 0;  // at a time; 0: no limit
  uint32_t queue_max = 0;     // jobs that wait; 0: no limit of its own
  Rates rates = {};

  bool operator==(const TenantSettings&) const = default;
};
using TenantTable = std::map<std::string, TenantSettings, std::less<>>;

// Of a config file's text, whose other settings are not looked at. kInvalid names the file, the
// table and the key that is unknown or has a wrong value, and says what it accepts.
Result<TenantTable> tenants_from_toml(std::string_view text, const std::string& path);

// What an operator changes of tenants that are what `tenants` says: tables [tenants.NAME] in which
// each key that is there has its new value, or "default", which takes it back. All or nothing;
// kInvalid as above, also if there is no table.
Result<TenantTable> changed_tenants(TenantTable tenants, std::string_view changes);

// The tables that tenants_from_toml reads back. Empty: there are none.
[[nodiscard]] std::string to_toml(const TenantTable& tenants);

// All that a tenant may have of the device can leave it, where a tenant without `device-memory` may
// have `tenant_memory_bytes` (0: no limit). kInvalid names the table and what to change.
Result<> check_tenants(const TenantTable& tenants, uint64_t tenant_memory_bytes);

}  // namespace djinn::server
