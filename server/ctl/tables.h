// SPDX-License-Identifier: Apache-2.0
// Tables: what the server's admin pages say, for people.
//
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace djinn::ctl {

using Json = nlohmann::ordered_json;

// They throw Json::exception if the page is not what this version of the server shows.
[[nodiscard]] std::string memory_text(const Json& page);
[[nodiscard]] std::string tenants_text(const Json& page);
[[nodiscard]] std::string sessions_text(const Json& page);
[[nodiscard]] std::string plans_text(const Json& page);
[[nodiscard]] std::string policy_text(const Json& page);

// "1.5 GiB"
[[nodiscard]] std::string size_text(uint64_t bytes);

}  // namespace djinn::ctl
