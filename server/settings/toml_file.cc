// SPDX-License-Identifier: Apache-2.0
#include "server/settings/toml_file.h"

namespace djinn::server {

Result<toml::table> parse_toml(std::string_view text, const std::string& path) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& e) {
    return Error{ErrorCode::kInvalid, path + ": line " + std::to_string(e.source().begin.line) +
                                          ": " + std::string(e.description())};
  }
}

}  // namespace djinn::server
