// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/harness/raw_peer.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "benchmarks/harness/rounds.h"

namespace djinn::benchmarks {
namespace {

// What a ping says: how many bytes follow it.
using Ping = std::array<std::byte, kPingBytes>;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

void read_all(int fd, std::span<std::byte> to) {
  while (!to.empty()) {
    const ssize_t got = ::recv(fd, to.data(), to.size(), 0);
    if (got <= 0) die("raw peer: recv");
    to = to.subspan(static_cast<size_t>(got));
  }
}

void write_all(int fd, std::span<const std::byte> from) {
  while (!from.empty()) {
    const ssize_t sent = ::send(fd, from.data(), from.size(), MSG_NOSIGNAL);
    if (sent <= 0) die("raw peer: send");
    from = from.subspan(static_cast<size_t>(sent));
  }
}

void no_delay(int fd) {
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

}  // namespace

RawPeer::RawPeer(size_t stream_bytes) : destination_(stream_bytes) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof name;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&name), length) != 0) die("raw peer: bind");
  ::listen(listener, 1);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&name), &length);
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&name), length) != 0) die("raw peer: connect");
  server_ = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  no_delay(fd_);
  no_delay(server_);
  ::close(listener);
  thread_ = std::thread([this] { serve(); });
}

RawPeer::~RawPeer() {
  ::shutdown(fd_, SHUT_RDWR);
  thread_.join();
  ::close(fd_);
  ::close(server_);
}

double RawPeer::ping() {
  Ping ping{};
  const auto start = Clock::now();
  write_all(fd_, ping);
  read_all(fd_, ping);
  return seconds_since(start);
}

void RawPeer::pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  ::pthread_setaffinity_np(thread_.native_handle(), sizeof set, &set);
}

double RawPeer::stream(std::span<const std::byte> bytes) {
  Ping ping{};
  const uint64_t size = bytes.size();
  std::memcpy(ping.data(), &size, sizeof size);
  const auto start = Clock::now();
  write_all(fd_, ping);
  write_all(fd_, bytes);
  read_all(fd_, ping);
  return seconds_since(start);
}

void RawPeer::serve() {
  Ping ping{};
  while (::recv(server_, ping.data(), ping.size(), MSG_WAITALL) ==
         static_cast<ssize_t>(ping.size())) {
    uint64_t size = 0;
    std::memcpy(&size, ping.data(), sizeof size);
    if (size > destination_.size()) std::abort();  // The benchmark's own mistake.
    read_all(server_, std::span(destination_).first(size));
    write_all(server_, ping);
  }
}

}  // namespace djinn::benchmarks
