// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/harness/counting_proxy.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

namespace djinn::benchmarks {
namespace {

sockaddr_in loopback(uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return name;
}

// Passes on what is there; false at the end of the stream.
bool move(int from, int to, std::atomic<uint64_t>& count) {
  std::array<std::byte, size_t{64} << 10> buffer;  // NOLINT: filled by recv.
  const ssize_t got = ::recv(from, buffer.data(), buffer.size(), 0);
  if (got <= 0) return false;
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t some =
        ::send(to, buffer.data() + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
    if (some <= 0) return false;
    sent += some;
  }
  count += static_cast<uint64_t>(got);
  return true;
}

}  // namespace

CountingProxy::CountingProxy(uint16_t port) : port_(port) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  stop_ = ::eventfd(0, EFD_CLOEXEC);
  sockaddr_in name = loopback(0);
  socklen_t length = sizeof name;
  if (listener_ < 0 || stop_ < 0 ||
      ::bind(listener_, reinterpret_cast<sockaddr*>(&name), length) != 0 ||
      ::listen(listener_, 4) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&name), &length) != 0) {
    throw std::runtime_error("counting proxy: no socket");
  }
  address_ = "tcp://127.0.0.1:" + std::to_string(ntohs(name.sin_port));
  thread_ = std::thread([this] { main(); });
}

CountingProxy::~CountingProxy() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_, &one, sizeof one);
  thread_.join();
  ::close(listener_);
  ::close(stop_);
}

void CountingProxy::main() {
  while (true) {
    std::array<pollfd, 2> wait{{{listener_, POLLIN, 0}, {stop_, POLLIN, 0}}};
    if (::poll(wait.data(), wait.size(), -1) < 0) continue;
    if (wait[1].revents != 0) return;
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in name = loopback(port_);
    if (::connect(server, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0) {
      pass(client, server);
    }
    ::close(client);
    ::close(server);
  }
}

void CountingProxy::pass(int client, int server) {
  const int one = 1;
  ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  ::setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  while (true) {
    std::array<pollfd, 3> wait{{{client, POLLIN, 0}, {server, POLLIN, 0}, {stop_, POLLIN, 0}}};
    if (::poll(wait.data(), wait.size(), -1) < 0) continue;
    if (wait[2].revents != 0) return;
    if (wait[0].revents != 0 && !move(client, server, up_)) return;
    if (wait[1].revents != 0 && !move(server, client, down_)) return;
  }
}

}  // namespace djinn::benchmarks
