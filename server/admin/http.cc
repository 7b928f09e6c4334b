// SPDX-License-Identifier: Apache-2.0
#include "server/admin/http.h"

#include <algorithm>

namespace djinn::server::admin {
namespace {

const char* reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    default:
      return "HTTP Version Not Supported";
  }
}

Parsed refuse(int status, std::string why) {
  return {.request = {}, .refusal = Response{.status = status, .body = std::move(why) + "\n"}};
}

bool is_visible(unsigned char c) { return c > 0x20 && c < 0x7f; }

Parsed parse_line(std::string_view line) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return refuse(400, "this is no HTTP");
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!version.starts_with("HTTP/")) return refuse(400, "this is no HTTP");
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return refuse(505, "HTTP/1.1 is spoken here");
  if (method != "GET" && method != "HEAD") return refuse(405, "only GET is answered here");
  if (!target.starts_with('/') || !std::ranges::all_of(target, is_visible)) {
    return refuse(400, "the target is no path");
  }
  return {.request = Request{.path = std::string(target.substr(0, target.find('?'))),
                             .head_only = method == "HEAD"},
          .refusal = {}};
}

}  // namespace

Parsed parse_request(std::string_view received) {
  const std::string_view head = received.substr(0, kRequestBytesMax);
  const bool whole = head.find("\r\n\r\n") != std::string_view::npos ||
                     head.find("\n\n") != std::string_view::npos;
  if (!whole) {
    if (received.size() < kRequestBytesMax) return {};
    return refuse(431, "a request has at most " + std::to_string(kRequestBytesMax) + " bytes");
  }
  std::string_view line = head.substr(0, head.find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return parse_line(line);
}

std::string to_bytes(const Response& response, bool head_only) {
  std::string out = "HTTP/1.1 " + std::to_string(response.status) + " " + reason(response.status) +
                    "\r\nContent-Type: " + response.type +
                    "\r\nContent-Length: " + std::to_string(response.body.size()) +
                    "\r\nCache-Control: no-store\r\nConnection: close\r\n";
  if (response.status == 405) out += "Allow: GET, HEAD\r\n";
  out += "\r\n";
  if (!head_only) out += response.body;
  return out;
}

}  // namespace djinn::server::admin
