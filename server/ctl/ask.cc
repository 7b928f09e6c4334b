// SPDX-License-Identifier: Apache-2.0
#include "server/ctl/ask.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <system_error>
#include <utility>

#include "serialization/transport/socket.h"

namespace djinn::ctl {
namespace {

using std::chrono::steady_clock;

constexpr size_t kAnswerBytesMax = size_t{64} << 20;

Result<> send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return Error{ErrorCode::kUnavailable, transport::errno_text(errno)};
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return Unit{};
}

// Everything until the peer closes.
Result<std::string> receive_all(int fd, steady_clock::time_point until) {
  std::string out;
  std::array<char, 16 << 10> bytes;
  while (out.size() < kAnswerBytesMax) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - steady_clock::now()).count();
    pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::max<int64_t>(left, 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Error{ErrorCode::kDeadline, "no answer in time"};
    const ssize_t got = ::recv(fd, bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error{ErrorCode::kUnavailable, transport::errno_text(errno)};
    if (got == 0) return out;
    out.append(bytes.data(), static_cast<size_t>(got));
  }
  return Error{ErrorCode::kInvalid, "the answer never ends"};
}

Result<int> status_of(const std::string& answer) {
  const std::string_view prefix = "HTTP/1.1 ";
  int status = 0;
  const char* const begin = answer.data() + std::min(prefix.size(), answer.size());
  const auto read = std::from_chars(begin, answer.data() + answer.size(), status);
  if (answer.starts_with(prefix) && read.ec == std::errc() && status >= 100) return status;
  return Error{ErrorCode::kInvalid, "what answers there is no admin socket of djinn-server"};
}

Result<Answer> exchange(const transport::Address& address, const std::string& request,
                        std::chrono::milliseconds patience) {
  const auto until = steady_clock::now() + patience;
  auto socket = transport::connect_socket(address, patience);
  if (!socket) {
    return Error{ErrorCode::kNotFound, socket.error().message +
                                           ". Is this server running, was it started with "
                                           "--admin " +
                                           address.text() + ", and by this user?"};
  }
  const auto named = [&](const Error& error) {
    return Error{error.code, address.text() + ": " + error.message};
  };
  const auto sent = send_all(socket->fd.get(), request);
  if (!sent) return named(sent.error());
  const auto answer = receive_all(socket->fd.get(), until);
  if (!answer) return named(answer.error());
  const auto status = status_of(*answer);
  if (!status) return named(status.error());
  const size_t end = answer->find("\r\n\r\n");
  if (end == std::string::npos) return named({ErrorCode::kInvalid, "the answer was cut short"});
  return Answer{.status = *status, .body = answer->substr(end + 4)};
}

Result<std::string> good(const transport::Address& address, Result<Answer> answer) {
  if (!answer) return answer.error();
  std::string body = std::move(answer->body);
  if (answer->status == 200) return body;
  while (body.ends_with('\n')) body.pop_back();
  return Error{ErrorCode::kFailed, address.text() + ": " + body};
}

}  // namespace

Result<Answer> look(const transport::Address& address, const std::string& path,
                    std::chrono::milliseconds patience) {
  return exchange(address, "GET " + path + " HTTP/1.1\r\nHost: djinn\r\n\r\n", patience);
}

Result<std::string> get(const transport::Address& address, const std::string& path,
                        std::chrono::milliseconds patience) {
  return good(address, look(address, path, patience));
}

Result<std::string> post(const transport::Address& address, const std::string& path,
                         const std::string& body, std::chrono::milliseconds patience) {
  const std::string head = "POST " + path + " HTTP/1.1\r\nHost: djinn\r\nContent-Length: " +
                           std::to_string(body.size()) + "\r\n\r\n";
  return good(address, exchange(address, head + body, patience));
}

}  // namespace djinn::ctl
