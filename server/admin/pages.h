// SPDX-License-Identifier: Apache-2.0
// Pages: what the admin socket answers: which path shows what of a report, and as what.
//
//   /health    is it alive            /memory    tiers, what moved, artifacts      (JSON)
//   /metrics   for Prometheus         /tenants   sums over sessions, peaks         (JSON)
//                                     /sessions  one entry each                    (JSON)
//
// Threading: pure functions, as far as the source of the report is.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "serialization/base/result.h"
#include "server/admin/http.h"
#include "server/report.h"

namespace djinn::server::admin {

enum class Show : uint8_t { kAll, kMetrics };  // kMetrics: /metrics and /health.
using Source = std::function<Result<ServerReport>()>;

[[nodiscard]] Response page(std::string_view path, Show show, const Source& source);

}  // namespace djinn::server::admin
