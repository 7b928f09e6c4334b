// SPDX-License-Identifier: Apache-2.0
// UringAcceptors: the listening sockets of an io_uring loop.
//
// Ownership: the loop owns them; each Listener that it hands out ends its own.
// Threading: the loop's thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"
#include "serialization/transport/socket.h"
#include "serialization/transport/uring.h"

namespace djinn::transport {

class UringAcceptors {
 public:
  using Adopt = std::function<std::unique_ptr<Connection>(ConnectedSocket)>;
  UringAcceptors(Uring& ring, Adopt adopt) : ring_(ring), adopt_(std::move(adopt)) {}

  Result<std::unique_ptr<Loop::Listener>> listen(const Address& address, Loop::OnAccept on_accept);
  // Asks the kernel for the next peer of each.
  void start();
  // A peer came, or could not; returns the number of callbacks run.
  size_t complete(const UringCompletion& completion);
  // The timeout, cut where one that ran out of descriptors tries again.
  [[nodiscard]] std::chrono::nanoseconds bounded(std::chrono::nanoseconds timeout) const;
  [[nodiscard]] bool in_use() const;

 private:
  struct Acceptor;
  class Guard;
  void stop(Acceptor& acceptor);

  Uring& ring_;
  Adopt adopt_;
  std::vector<std::shared_ptr<Acceptor>> acceptors_;
};

}  // namespace djinn::transport
