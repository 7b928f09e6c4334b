// SPDX-License-Identifier: Apache-2.0
// HTTP peer: who asks an admin listener, byte by byte if a test wants it. Threading: one thread.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <string>
#include <string_view>

#include "serialization/transport/socket.h"

namespace djinn::testing {

class HttpPeer {
 public:
  explicit HttpPeer(const transport::Address& address) {
    auto connected = transport::connect_socket(address, std::chrono::seconds(10));
    if (connected) fd_ = std::move(connected->fd);
  }
  [[nodiscard]] bool connected() const { return fd_.valid(); }
  bool send(std::string_view bytes) {
    return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  // Until the listener closes, or nothing comes for 20 s.
  std::string receive() {
    std::string out;
    std::array<char, 4096> bytes{};
    pollfd waiting{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    while (::poll(&waiting, 1, 20'000) > 0) {
      const ssize_t got = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
      if (got <= 0) break;
      out.append(bytes.data(), static_cast<size_t>(got));
    }
    return out;
  }

 private:
  transport::Fd fd_;
};

// The whole answer, its head included.
inline std::string http_get(const transport::Address& address, const std::string& path) {
  HttpPeer peer(address);
  if (!peer.send("GET " + path + " HTTP/1.1\r\nHost: djinn\r\n\r\n")) return "";
  return peer.receive();
}
inline std::string http_body(const transport::Address& address, const std::string& path) {
  const std::string answer = http_get(address, path);
  const size_t end = answer.find("\r\n\r\n");
  return end == std::string::npos ? "" : answer.substr(end + 4);
}

}  // namespace djinn::testing
