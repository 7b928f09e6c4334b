// SPDX-License-Identifier: Apache-2.0
#include "server/settings/access.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "server/settings/tenants.h"

namespace djinn::server {
namespace {

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

}  // namespace

Access::Digest Access::digest(std::string_view token) {
  Digest out;
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), out.data());
  return out;
}

Result<Access> Access::parse(std::string_view text) {
  Access access;
  size_t line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const size_t end = text.find('\n');
    const std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line.front() == '#') continue;
    const size_t equals = line.rfind('=');  // A token may contain one, a tenant's name may not.
    const auto token = trim(line.substr(0, equals));
    const auto tenant =
        equals == std::string_view::npos ? std::string_view() : trim(line.substr(equals + 1));
    if (token.empty() || tenant.empty()) {
      return Error{ErrorCode::kInvalid,
                   "tokens: line " + std::to_string(line_number) + " is not token=tenant"};
    }
    access.entries_.push_back({.token = digest(token), .tenant = std::string(tenant)});
  }
  return access;
}

Result<std::string> Access::tenant(std::string_view token, bool local) const {
  if (token.empty()) {
    if (local || anonymous_everywhere_) return std::string(kAnonymousTenant);
    return Error{ErrorCode::kDenied,
                 "hello: this server wants a token from clients that are not on its machine"};
  }
  const Digest wanted = digest(token);
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    if (CRYPTO_memcmp(entry.token.data(), wanted.data(), wanted.size()) == 0) found = &entry;
  }
  if (found == nullptr) return Error{ErrorCode::kDenied, "hello: the token names no tenant"};
  return found->tenant;
}

}  // namespace djinn::server
