// SPDX-License-Identifier: Apache-2.0
// Top: what a server did between two looks at its /load page, for people and for scripts.
//
// Threading: pure functions.
#pragma once

#include <string>

#include "server/ctl/table.h"

namespace djinn::ctl {

// Rates, shares and waits of what was between, and what is there at the second look; who did most
// comes first. They throw Json::exception if a page is not what this version of the server shows.
[[nodiscard]] Json top_of(const Json& before, const Json& now);
[[nodiscard]] std::string top_text(const Json& top);

}  // namespace djinn::ctl
