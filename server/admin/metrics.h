// SPDX-License-Identifier: Apache-2.0
// Metrics: a report in Prometheus' text format 0.0.4. docs/operations.md explains each figure.
//
// No session has a series of its own: their ids never end. Threading: pure functions.
#pragma once

#include <string>

#include "server/report.h"

namespace djinn::server::admin {

[[nodiscard]] std::string to_metrics(const ServerReport& report);

}  // namespace djinn::server::admin
