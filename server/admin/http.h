// SPDX-License-Identifier: Apache-2.0
// HTTP: as much of HTTP/1.1 as one GET needs: a request's head, an answer, and the end.
//
// Why our own: a hundred lines, and no library to keep. A body is never read.
// Threading: pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace djinn::server::admin {

inline constexpr size_t kRequestBytesMax = 8 << 10;  // Longer ones are answered with 431.

struct Response {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;
};

struct Request {
  std::string path;        // without what follows a "?"
  bool head_only = false;  // HEAD: as GET, without the body.
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
