// SPDX-License-Identifier: Apache-2.0
#include "server/ctl/get.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

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

}  // namespace

Result<std::string> get(const transport::Address& address, const std::string& path,
                        std::chrono::milliseconds patience) {
  const auto until = steady_clock::now() + patience;
  auto socket = transport::connect_socket(address, patience);
  if (!socket) {
    return Error{socket.error().code, socket.error().message +
                                          ". Is this server running, was it started with --admin " +
                                          address.text() + ", and by this user?"};
  }
  const auto named = [&](const Error& error) {
    return Error{error.code, address.text() + ": " + error.message};
  };
  const auto sent = send_all(socket->fd.get(), "GET " + path + " HTTP/1.1\r\nHost: djinn\r\n\r\n");
  if (!sent) return named(sent.error());
  auto answer = receive_all(socket->fd.get(), until);
  if (!answer) return named(answer.error());
  const std::string_view prefix = "HTTP/1.1 ";
  const size_t end = answer->find("\r\n\r\n");
  if (!answer->starts_with(prefix) || end == std::string::npos) {
    return named({ErrorCode::kInvalid, "what answers there is no admin socket of djinn-server"});
  }
  const bool good = answer->compare(prefix.size(), 4, "200 ") == 0;
  std::string body = answer->substr(end + 4);
  if (good) return body;
  while (body.ends_with('\n')) body.pop_back();
  return named({ErrorCode::kFailed, body});
}

}  // namespace djinn::ctl
