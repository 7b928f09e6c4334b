// SPDX-License-Identifier: Apache-2.0
// Results: what came out of a load, for people and as one JSON object. (djinn-trace replay)
// Threading: pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trace/driver.h"

namespace djinn::trace {

// `names`: one per part.
[[nodiscard]] nlohmann::json to_json(const Outcome& outcome, const std::vector<std::string>& names);
[[nodiscard]] std::string to_text(const Outcome& outcome, const std::vector<std::string>& names);

// Every play came to its end with the answers that were recorded.
[[nodiscard]] bool all_right(const Outcome& outcome);

}  // namespace djinn::trace
