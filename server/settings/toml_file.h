// SPDX-License-Identifier: Apache-2.0
// TOML file: an operator's file as a table. For .cc files; toml++ is long to read.
// Threading: any thread.
#pragma once

#include <toml++/toml.h>

#include <string>
#include <string_view>

#include "serialization/base/result.h"

namespace djinn::server {

// `path` is for the error, which also says the line.
Result<toml::table> parse_toml(std::string_view text, const std::string& path);

}  // namespace djinn::server
