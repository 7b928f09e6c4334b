// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/harness/socket_bytes.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>

namespace djinn::benchmarks {
namespace {

std::optional<uint16_t> peer_port(int fd) {
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0) return std::nullopt;
  if (peer.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in*>(&peer)->sin_port);
  if (peer.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6*>(&peer)->sin6_port);
  return std::nullopt;
}

}  // namespace

SocketBytes socket_bytes(uint16_t port) {
  SocketBytes total;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::atoi(entry.path().filename().c_str());
    if (peer_port(fd) != port) continue;
    tcp_info info{};
    socklen_t length = sizeof info;
    if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) continue;
    // The handshake counts as one byte.
    total.sent += info.tcpi_bytes_acked > 0 ? info.tcpi_bytes_acked - 1 : 0;
    total.received += info.tcpi_bytes_received;
  }
  return total;
}

uint16_t port_of(const char* address) {
  const std::string text(address);
  const size_t colon = text.rfind(':');
  if (!text.starts_with("tcp://") || colon < 6)
    throw std::invalid_argument("no TCP address: " + text);
  return static_cast<uint16_t>(std::stoul(text.substr(colon + 1)));
}

}  // namespace djinn::benchmarks
