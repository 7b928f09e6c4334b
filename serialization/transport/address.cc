// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <sys/un.h>

#include <charconv>
#include <string_view>

#include "serialization/transport/connection.h"

namespace djinn::transport {
namespace {

constexpr std::string_view kTcp = "tcp://";
constexpr std::string_view kUnix = "unix://";

Error invalid(const std::string& text) {
  return Error{ErrorCode::kInvalid, "\"" + text +
                                        "\" is no address: use tcp://host:port, tcp://[v6]:port "
                                        "or unix:///path (of at most 107 characters)"};
}

bool parse_port(std::string_view text, uint16_t& port) {
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, port);
  return error == std::errc{} && rest == end;
}

}  // namespace

Result<Address> parse_address(const std::string& text) {
  const std::string_view view = text;
  Address address;
  if (view.starts_with(kUnix)) {
    address.kind = Address::Kind::kUnix;
    address.host = view.substr(kUnix.size());
    const bool fits = address.host.size() < sizeof(sockaddr_un::sun_path);
    if (!address.host.starts_with('/') || !fits) return invalid(text);
    if (address.host.find('\0') != std::string::npos) return invalid(text);
    return address;
  }
  if (!view.starts_with(kTcp)) return invalid(text);
  const std::string_view rest = view.substr(kTcp.size());
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return invalid(text);
  std::string_view host = rest.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":[]") != std::string_view::npos) {
    return invalid(text);
  }
  if (host.empty() || host.find_first_of(std::string_view("/ \0", 3)) != std::string_view::npos) {
    return invalid(text);
  }
  if (!parse_port(rest.substr(colon + 1), address.port)) return invalid(text);
  address.host = host;
  return address;
}

std::string Address::text() const {
  if (kind == Kind::kUnix) return std::string(kUnix) + host;
  const bool v6 = host.find(':') != std::string::npos;
  return std::string(kTcp) + (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

bool Address::is_local() const {
  if (kind == Kind::kUnix || host == "localhost") return true;
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6) != 1) return false;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == 127;
  return IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace djinn::transport
