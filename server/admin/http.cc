// SPDX-License-Identifier: Apache-2.0
#include "server/admin/http.h"

#include <algorithm>

namespace djinn::server::admin {
namespace {

static_assert(kBodyBytesMax == 1024);
constexpr const char* kTooLong = "a body has at most 1024 bytes";

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
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
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
bool is_upper(unsigned char c) { return c >= 'A' && c <= 'Z'; }
bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }

Method method_of(std::string_view text) {
  if (text == "GET") return Method::kGet;
  if (text == "HEAD") return Method::kHead;
  return text == "POST" ? Method::kPost : Method::kOther;
}

Parsed parse_line(std::string_view line) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return refuse(400, "this is no HTTP");
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!version.starts_with("HTTP/") || method.empty() || !std::ranges::all_of(method, is_upper)) {
    return refuse(400, "this is no HTTP");
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return refuse(505, "HTTP/1.1 is spoken here");
  if (!target.starts_with('/') || !std::ranges::all_of(target, is_visible)) {
    return refuse(400, "the target is no path");
  }
  return {.request = Request{.method = method_of(method),
                             .path = std::string(target.substr(0, target.find('?')))},
          .refusal = {}};
}

// The next line of a head, without its end, which is taken off.
std::string_view take_line(std::string_view& head) {
  const size_t end = head.find('\n');
  std::string_view line = head.substr(0, end);
  head.remove_prefix(end == std::string_view::npos ? head.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

bool is_same_name(std::string_view a, std::string_view b) {
  const auto lower = [](unsigned char c) { return is_upper(c) ? c + ('a' - 'A') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  return text;
}

// What the headers say of the body.
struct Headers {
  std::optional<size_t> body_bytes;
  std::optional<Response> refusal;
};

Headers parse_headers(std::string_view lines) {
  const auto refused = [](int status, std::string why) {
    return Headers{.body_bytes = {}, .refusal = refuse(status, std::move(why)).refusal};
  };
  Headers out;
  while (!lines.empty()) {
    const std::string_view line = take_line(lines);
    if (line.empty()) break;
    const std::string_view name = line.substr(0, line.find(':'));
    if (name.size() == line.size() || name.empty() || !std::ranges::all_of(name, is_visible)) {
      return refused(400, "a line of the head is no header");
    }
    if (is_same_name(name, "transfer-encoding")) {
      return refused(501, "a body comes in one piece here, behind a Content-Length");
    }
    if (!is_same_name(name, "content-length")) continue;
    const std::string_view value = trimmed(line.substr(name.size() + 1));
    if (out.body_bytes || value.empty() || !std::ranges::all_of(value, is_digit)) {
      return refused(400, "Content-Length is not one number");
    }
    if (value.size() > 9) return refused(413, kTooLong);
    out.body_bytes = std::stoul(std::string(value));
  }
  return out;
}

// Behind the empty line; npos: it has not come yet.
size_t end_of_head(std::string_view head) {
  const size_t crlf = head.find("\r\n\r\n");
  const size_t lf = head.find("\n\n");
  if (crlf == std::string_view::npos && lf == std::string_view::npos) return crlf;
  return crlf < lf ? crlf + 4 : lf + 2;
}

}  // namespace

Parsed parse_request(std::string_view received) {
  const size_t end = end_of_head(received.substr(0, kRequestBytesMax));
  if (end == std::string_view::npos) {
    if (received.size() < kRequestBytesMax) return {};
    return refuse(
        431, "the head of a request has at most " + std::to_string(kRequestBytesMax) + " bytes");
  }
  std::string_view head = received.substr(0, end);
  Parsed out = parse_line(take_line(head));
  if (out.refusal) return out;
  const Headers headers = parse_headers(head);
  if (headers.refusal) return {.request = {}, .refusal = headers.refusal};
  const size_t bytes = headers.body_bytes.value_or(0);
  if (bytes > kBodyBytesMax) {
    return refuse(413, kTooLong);
  }
  if (out.request->method != Method::kPost) {
    return bytes == 0 ? out : refuse(400, "only a POST has a body");
  }
  if (!headers.body_bytes) return refuse(411, "a POST says its Content-Length");
  if (received.size() < end + bytes) return {};
  out.request->body = received.substr(end, bytes);
  return out;
}

std::string to_bytes(const Response& response, bool head_only) {
  std::string out = "HTTP/1.1 " + std::to_string(response.status) + " " + reason(response.status) +
                    "\r\nContent-Type: " + response.type +
                    "\r\nContent-Length: " + std::to_string(response.body.size()) +
                    "\r\nCache-Control: no-store\r\nConnection: close\r\n";
  if (!response.allow.empty()) out += "Allow: " + response.allow + "\r\n";
  out += "\r\n";
  if (!head_only) out += response.body;
  return out;
}

}  // namespace djinn::server::admin
