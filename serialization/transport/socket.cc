// SPDX-License-Identifier: Apache-2.0
#include "serialization/transport/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <vector>

#include "serialization/base/limits.h"

namespace djinn::transport {
namespace {

constexpr int kBacklog = 1024;
constexpr int kKeepIdleSeconds = 10;
constexpr int kKeepIntervalSeconds = 5;
constexpr int kKeepProbes = 4;
constexpr unsigned kUserTimeoutMs = kPeerTimeoutNs / 1'000'000;
constexpr int kUnixBufferBytes = 4 << 20;

Error unavailable(const Address& address, const std::string& cause) {
  return Error{ErrorCode::kUnavailable, address.text() + ": " + cause};
}
Error invalid(const Address& address, const std::string& cause) {
  return Error{ErrorCode::kInvalid, address.text() + ": " + cause};
}

void set_option(int fd, int level, int name, int value) {
  // Best effort: a kernel without the option only makes us slower to notice.
  (void)::setsockopt(fd, level, name, &value, sizeof value);
}

// TCP buffers stay with the kernel's auto-tuning, which reaches more than SO_SNDBUF may ask for;
// unix sockets have none, and 200 KiB would cut every large transfer into slices.
void set_options(int fd, int family) {
  if (family == AF_UNIX) {
    set_option(fd, SOL_SOCKET, SO_SNDBUF, kUnixBufferBytes);
    return;
  }
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepIdleSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepIntervalSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepProbes);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(kUserTimeoutMs));
}

// A socket address of either family, big enough for all.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }
};

SocketAddress unix_address(const std::string& path) {
  SocketAddress result;
  auto* name = reinterpret_cast<sockaddr_un*>(&result.storage);
  name->sun_family = AF_UNIX;
  std::memcpy(name->sun_path, path.data(), std::min(path.size(), sizeof name->sun_path - 1));
  result.length = sizeof(sockaddr_un);
  return result;
}

Result<std::vector<SocketAddress>> resolve(const Address& address, bool to_listen) {
  if (address.kind == Address::Kind::kUnix) {
    if (address.host.size() >= sizeof(sockaddr_un::sun_path)) {
      return invalid(address, "the path is too long");
    }
    return std::vector<SocketAddress>{unix_address(address.host)};
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (to_listen ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const int failed =
      ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (failed != 0) return unavailable(address, ::gai_strerror(failed));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> guard(found, &::freeaddrinfo);
  std::vector<SocketAddress> result;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    SocketAddress one;
    std::memcpy(&one.storage, at->ai_addr, at->ai_addrlen);
    one.length = at->ai_addrlen;
    result.push_back(one);
  }
  return result;
}

Address to_address(const SocketAddress& from) {
  Address result;
  char text[INET6_ADDRSTRLEN] = "?";
  if (from.family() == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&from.storage);
    ::inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    result.port = ntohs(v4->sin_port);
  } else if (from.family() == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&from.storage);
    ::inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    result.port = ntohs(v6->sin6_port);
  }
  result.host = text;
  return result;
}

SocketAddress own_name(int fd) {
  SocketAddress result;
  result.length = sizeof result.storage;
  (void)::getsockname(fd, result.get(), &result.length);
  return result;
}

// Same address at both ends: the peer is here although the address is not 127.x.
bool is_same_host(int fd, const Address& peer) {
  return peer.is_local() || to_address(own_name(fd)).host == peer.host;
}

// Whether this is a unix socket file behind which nobody listens any more. (Connecting to a plain
// file is refused too, and that is not ours to remove.)
bool is_stale(const std::string& path, const SocketAddress& name) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(probe.get(), name.get(), name.length) != 0 && errno == ECONNREFUSED;
}

int bind_replacing_stale(int fd, const Address& address, const SocketAddress& name) {
  if (::bind(fd, name.get(), name.length) == 0) return 0;
  const int error = errno;
  if (error != EADDRINUSE || name.family() != AF_UNIX || !is_stale(address.host, name)) {
    return error;
  }
  if (::unlink(address.host.c_str()) != 0) return errno;
  return ::bind(fd, name.get(), name.length) == 0 ? 0 : errno;
}

int wait_connected(int fd, std::chrono::steady_clock::time_point deadline) {
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd waiting{.fd = fd, .events = POLLOUT, .revents = 0};
    const int ready =
        ::poll(&waiting, 1, static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1 << 30)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return errno;
    if (ready == 0) return ETIMEDOUT;
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
    return error;
  }
}

// 0, or the errno that says why not.
int connect_one(const SocketAddress& name, std::chrono::steady_clock::time_point deadline,
                Fd& out) {
  Fd fd(::socket(name.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return errno;
  set_options(fd.get(), name.family());
  while (::connect(fd.get(), name.get(), name.length) != 0) {
    if (errno == EAGAIN && name.family() == AF_UNIX) {  // The backlog is full; poll cannot tell.
      if (std::chrono::steady_clock::now() >= deadline) return ETIMEDOUT;
      ::usleep(1000);
      continue;
    }
    if (errno != EINPROGRESS && errno != EINTR) return errno;
    if (const int error = wait_connected(fd.get(), deadline); error != 0) return error;
    break;
  }
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) return errno;
  out = std::move(fd);
  return 0;
}

}  // namespace

void Fd::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

std::string errno_text(int error) { return std::generic_category().message(error); }

Result<ListeningSocket> listen_socket(const Address& address, std::optional<mode_t> mode) {
  DJINN_TRY(const auto names, resolve(address, true));
  int error = EADDRNOTAVAIL;
  for (const SocketAddress& name : names) {
    Fd fd(::socket(name.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) {
      error = errno;
      continue;
    }
    if (name.family() != AF_UNIX) set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    // Linux makes the file with the mode that the socket has.
    if (mode && name.family() == AF_UNIX && ::fchmod(fd.get(), *mode) != 0) {
      error = errno;
      continue;
    }
    error = bind_replacing_stale(fd.get(), address, name);
    if (error == 0 && ::listen(fd.get(), kBacklog) != 0) error = errno;
    if (error != 0) continue;
    Address bound = address;
    if (name.family() != AF_UNIX) bound.port = to_address(own_name(fd.get())).port;
    return ListeningSocket{.fd = std::move(fd), .address = std::move(bound)};
  }
  const std::string cause = "cannot listen: " + errno_text(error);
  return error == EADDRINUSE ? unavailable(address, cause) : invalid(address, cause);
}

Result<ConnectedSocket> connect_socket(const Address& address, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  DJINN_TRY(const auto names, resolve(address, false));
  int error = EADDRNOTAVAIL;
  for (const SocketAddress& name : names) {
    ConnectedSocket result{.fd = Fd{}, .peer = address.text(), .local = address.is_local()};
    error = connect_one(name, deadline, result.fd);
    if (error != 0) continue;
    if (name.family() != AF_UNIX) result.local = is_same_host(result.fd.get(), to_address(name));
    return result;
  }
  return unavailable(address, "cannot connect: " + errno_text(error));
}

ConnectedSocket accepted_socket(Fd fd) {
  SocketAddress name;
  name.length = sizeof name.storage;
  (void)::getpeername(fd.get(), name.get(), &name.length);
  set_options(fd.get(), name.family());
  ConnectedSocket result{.fd = std::move(fd), .peer = {}, .local = true};
  if (name.family() == AF_UNIX) {
    ucred peer{};
    socklen_t length = sizeof peer;
    (void)::getsockopt(result.fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length);
    result.peer = "unix socket of process " + std::to_string(peer.pid);
    return result;
  }
  const Address peer = to_address(name);
  result.peer = peer.text();
  result.local = is_same_host(result.fd.get(), peer);
  return result;
}

void end_socket(int fd, bool drop_unsent) {
  ::shutdown(fd, SHUT_RDWR);
  if (!drop_unsent) return;
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;  // TCP forgets its queues and tells the peer with a reset.
  (void)::connect(fd, &nobody, sizeof nobody);
}

}  // namespace djinn::transport
