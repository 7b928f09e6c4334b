// SPDX-License-Identifier: Apache-2.0
// Socket: makes the sockets that both loops drive, with the options that this protocol wants.
//
// Why blocking descriptors: io_uring answers EAGAIN at once for a nonblocking one instead of
// waiting in the kernel; the poll loop passes MSG_DONTWAIT instead.
// Ownership: an Fd closes what it holds. Threading: plain values.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"

namespace djinn::transport {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

// "connection refused", for the end of a message.
[[nodiscard]] std::string errno_text(int error);

struct ListeningSocket {
  Fd fd;
  Address address;  // With the port that was chosen.
};
// kInvalid or kUnavailable name the address and the cause. A stale unix socket file is replaced.
// `mode`: of a unix socket's file, from the moment it is there; none: as the umask says.
Result<ListeningSocket> listen_socket(const Address& address, std::optional<mode_t> mode = {});

struct ConnectedSocket {
  Fd fd;
  std::string peer;    // For messages to people.
  bool local = false;  // The peer is on this machine: zero-copy sends would be copied anyway.
};
Result<ConnectedSocket> connect_socket(const Address& address, std::chrono::milliseconds timeout);

// Sets the options of a socket that accept(2) returned, and names its peer.
[[nodiscard]] ConnectedSocket accepted_socket(Fd fd);

// Ends both directions. What the kernel has taken is still delivered, unless `drop_unsent`: then it
// is forgotten, so that the kernel lets go of memory that zero-copy sends refer to.
void end_socket(int fd, bool drop_unsent);

}  // namespace djinn::transport
