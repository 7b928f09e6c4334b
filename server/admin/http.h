// SPDX-License-Identifier: Apache-2.0
// HTTP: as much of HTTP/1.1 as one GET or one small POST needs: a request, an answer, and the end.
//
// Why our own: a hundred lines, and no library to keep. What is not understood is refused: a header
// that is none, a length that is not one number, a body in pieces.
// Threading: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace djinn::server::admin {

inline constexpr size_t kRequestBytesMax = 8 << 10;  // Of a head: longer ones are answered with 431
inline constexpr size_t kBodyBytesMax = 1 << 10;     // and longer bodies with 413.

struct Response {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;
  std::string allow = {};  // With a 405: the methods that are answered there.
};

enum class Method : uint8_t { kGet, kHead, kPost, kOther };

struct Request {
  Method method = Method::kGet;
  std::string path;  // without what follows a "?"
  std::string body = {};
};

// What has arrived of a request: `request`, or `refusal`, or neither as long as more must come.
struct Parsed {
  std::optional<Request> request;
  std::optional<Response> refusal;
};
[[nodiscard]] Parsed parse_request(std::string_view received);

// The answer in bytes; the connection closes behind it.
[[nodiscard]] std::string to_bytes(const Response& response, bool head_only);

}  // namespace djinn::server::admin
