// SPDX-License-Identifier: Apache-2.0
// Access: who may use the server, by the token in its hello.
//
// Threading: immutable once made.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "serialization/base/result.h"

namespace djinn::server {

class Access {
 public:
  // Lines "token=tenant"; empty ones and those that begin with # are skipped. kInvalid names the
  // line that is wrong (and not what it says).
  static Result<Access> parse(std::string_view text);

  void allow_anonymous(bool everywhere) { anonymous_everywhere_ = everywhere; }

  // The tenant of a token; "anonymous" for an empty one. `local`: over a unix socket or loopback.
  // kDenied says why. Takes the same time for every wrong token.
  [[nodiscard]] Result<std::string> tenant(std::string_view token, bool local) const;

 private:
  using Digest = std::array<uint8_t, 32>;
  struct Entry {
    Digest token;
    std::string tenant;
  };
  static Digest digest(std::string_view token);

  std::vector<Entry> entries_;
  bool anonymous_everywhere_ = false;
};

}  // namespace djinn::server
