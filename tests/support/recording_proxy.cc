// SPDX-License-Identifier: Apache-2.0
#include "tests/support/recording_proxy.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <span>
#include <stdexcept>

namespace djinn::testing {
namespace {

sockaddr_in loopback(uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return out;
}

bool send_all(int socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
  return true;
}

}  // namespace

RecordingProxy::RecordingProxy(const std::string& server, size_t piece_bytes,
                               std::chrono::microseconds delay)
    : server_(transport::parse_address(server).value()), piece_bytes_(piece_bytes), delay_(delay) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in here = loopback(0);
  socklen_t length = sizeof here;
  auto* const address = reinterpret_cast<sockaddr*>(&here);
  if (bind(listener_, address, length) != 0 || listen(listener_, 1) != 0 ||
      getsockname(listener_, address, &length) != 0) {
    throw std::runtime_error("the proxy cannot listen");
  }
  address_ = "tcp://127.0.0.1:" + std::to_string(ntohs(here.sin_port));
  thread_ = std::jthread([this] { run(); });
}

RecordingProxy::~RecordingProxy() {
  shutdown(listener_, SHUT_RDWR);
  if (thread_.joinable()) thread_.join();
  close(listener_);
}

void RecordingProxy::run() {
  const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (client < 0) return;
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in there = loopback(server_.port);
  bool open = connect(server, reinterpret_cast<const sockaddr*>(&there), sizeof there) == 0;
  for (const int each : {client, server}) {
    const int on = 1;
    setsockopt(each, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  std::vector<std::byte> piece(piece_bytes_);
  std::array<pollfd, 2> ends{pollfd{client, POLLIN, 0}, pollfd{server, POLLIN, 0}};
  while (open && poll(ends.data(), ends.size(), -1) > 0) {
    for (size_t i = 0; i < ends.size() && open; ++i) {
      if (ends[i].revents == 0) continue;
      const ssize_t got = recv(ends[i].fd, piece.data(), piece.size(), 0);
      const auto bytes = std::span(piece).first(static_cast<size_t>(std::max<ssize_t>(got, 0)));
      if (i == 0) bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
      open = got > 0 && send_all(ends[1 - i].fd, bytes);
      if (delay_.count() > 0) std::this_thread::sleep_for(delay_);
    }
  }
  close(client);
  close(server);
}

std::vector<RecordingProxy::Frame> RecordingProxy::heard() {
  thread_.join();
  std::vector<Frame> frames;
  std::span<const std::byte> rest(bytes_);
  const auto take = [&rest](size_t count) {
    count = std::min(count, rest.size());
    const std::vector<std::byte> out(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(count));
    rest = rest.subspan(count);
    return out;
  };
  while (rest.size() >= transport::kFrameHeaderBytes) {
    const auto header = transport::decode(rest.first<transport::kFrameHeaderBytes>()).value();
    rest = rest.subspan(transport::kFrameHeaderBytes);
    Frame& frame = frames.emplace_back();
    frame.kind = header.kind;
    frame.message = take(header.message_bytes);
    frame.payload = take(header.payload_bytes);
    (void)take(transport::padding(header.payload_bytes));
  }
  return frames;
}

}  // namespace djinn::testing
