// SPDX-License-Identifier: Apache-2.0
// Sender: frames to one client, kept alive until they are sent.
//
// Ownership: borrows the connection; frames that are not copied own what they point at.
// Threading: the I/O thread.
#pragma once

#include <functional>

#include "serialization/codec/messages.h"
#include "serialization/transport/connection.h"
#include "server/executor.h"

namespace djinn::server {

class Sender {
 public:
  // `on_sent` runs whenever a large frame has been sent, until the connection dies.
  Sender(transport::Connection& connection, std::function<void()> on_sent);

  void send(transport::FrameKind kind, codec::Message message, Answer payload = {});
  template <typename T>
  void send(transport::FrameKind kind, const T& message) {
    send(kind, codec::encode(message));
  }

  [[nodiscard]] uint64_t last_sent_ns() const { return last_sent_ns_; }

 private:
  transport::Connection& connection_;
  const std::function<void()> on_sent_;
  uint64_t last_sent_ns_;
};

}  // namespace djinn::server
