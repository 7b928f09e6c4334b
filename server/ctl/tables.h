// SPDX-License-Identifier: Apache-2.0
// Tables: what the server's admin pages say, for people.
//
// Threading: pure functions.
#pragma once

#include <string>

#include "server/ctl/table.h"

namespace djinn::ctl {

// They throw Json::exception if the page is not what this version of the server shows.
[[nodiscard]] std::string memory_text(const Json& page);
[[nodiscard]] std::string tenants_text(const Json& page);
[[nodiscard]] std::string sessions_text(const Json& page);
[[nodiscard]] std::string plans_text(const Json& page);
[[nodiscard]] std::string policy_text(const Json& page);

}  // namespace djinn::ctl
