// SPDX-License-Identifier: Apache-2.0
// Pages: what the admin socket answers: which path shows what of a report, and as what; and which
// changes what.
//
//   /health    is it alive            /memory    tiers, what moved, artifacts      (JSON)
//   /metrics   for Prometheus         /tenants   sums over sessions, peaks         (JSON)
//                                     /sessions  one entry each                    (JSON)
//                                                POST: what they may have
//                                     /load      what top subtracts                (JSON)
//                                     /policy    who runs next; POST: another one  (JSON)
//                                     /drain     POST: end when all is done        (JSON)
//
// Threading: pure functions, as far as what they ask is.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "serialization/base/result.h"
#include "server/admin/http.h"
#include "server/report.h"

namespace djinn::server::admin {

enum class Show : uint8_t { kAll, kMetrics };  // kMetrics: /metrics and /health.

// The server, as pages see it. Each says what the server is now, or why it does not.
struct Desk {
  using Source = std::function<Result<ServerReport>()>;
  Source report;
  std::function<Result<ServerReport>(std::string_view name)> set_policy = {};
  Source drain = {};
  std::function<Result<ServerReport>(std::string changes)> change_tenants = {};
};

// A path that nobody shows is 404, a method that it does not answer is 405.
[[nodiscard]] Response answer(const Request& request, Show show, const Desk& desk);

}  // namespace djinn::server::admin
