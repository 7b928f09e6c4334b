// SPDX-License-Identifier: Apache-2.0
#include "tests/support/relay.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <stdexcept>
#include <utility>
#include <vector>

namespace djinn::testing {
namespace {

constexpr std::chrono::seconds kConnectTimeout{10};

bool send_all(int socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
  return true;
}

// Until something happened on one of them.
void wait_for(std::span<pollfd> events) {
  while (::poll(events.data(), events.size(), -1) <= 0) {
  }
}

}  // namespace

Relay::Relay(const std::string& server, Observer observer, size_t piece_bytes)
    : server_(transport::parse_address(server).value()),
      observer_(std::move(observer)),
      piece_bytes_(piece_bytes),
      stop_(::eventfd(0, EFD_CLOEXEC)) {
  auto listening = transport::listen_socket({.host = "127.0.0.1"});
  if (!listening || !stop_.valid()) throw std::runtime_error("the relay cannot listen");
  listener_ = std::move(listening->fd);
  address_ = listening->address.text();
  thread_ = std::thread([this] { run(); });
}

Relay::~Relay() {
  ::eventfd_write(stop_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

void Relay::wait() { thread_.join(); }

void Relay::run() {
  std::array<pollfd, 2> events{{{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  wait_for(events);
  if (events[1].revents != 0) return;
  const auto client = transport::accepted_socket(
      transport::Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
  const auto server = transport::connect_socket(server_, kConnectTimeout);
  if (server) pass(client.fd.get(), server->fd.get());
}

void Relay::pass(int client, int server) {
  std::vector<std::byte> buffer(piece_bytes_);
  std::array<pollfd, 3> events{
      {{client, POLLIN, 0}, {server, POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  const std::array ways{Way::kToServer, Way::kToClient};
  while (true) {
    wait_for(events);
    if (events[2].revents != 0) return;
    for (const size_t from : {0, 1}) {
      if (events[from].revents == 0) continue;
      const ssize_t got = ::recv(events[from].fd, buffer.data(), buffer.size(), 0);
      if (got <= 0) return;
      const auto piece = std::span(buffer).first(static_cast<size_t>(got));
      observer_(ways[from], piece);
      if (!send_all(events[1 - from].fd, piece)) return;
    }
  }
}

}  // namespace djinn::testing
