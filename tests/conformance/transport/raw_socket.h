// SPDX-License-Identifier: Apache-2.0
// RawSocket: a peer that says whatever a test wants, byte by byte.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <span>

#include <gtest/gtest.h>

#include "serialization/transport/connection.h"

namespace djinn::transport {

class RawSocket {
 public:
  explicit RawSocket(const Address& address) {
    if (address.kind == Address::Kind::kUnix) {
      sockaddr_un name{};
      name.sun_family = AF_UNIX;
      std::strncpy(name.sun_path, address.host.c_str(), sizeof name.sun_path - 1);
      fd_ = ::socket(AF_UNIX, SOCK_STREAM, 0);
      EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
      return;
    }
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(address.port);
    ::inet_pton(AF_INET, address.host.c_str(), &name.sin_addr);
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  }
  ~RawSocket() { close(); }
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;

  void write(std::span<const std::byte> bytes) const {
    EXPECT_EQ(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // -1: nothing there yet; 0: the other side closed.
  [[nodiscard]] ssize_t read(std::span<std::byte> bytes) const {
    return ::recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT);
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

}  // namespace djinn::transport
