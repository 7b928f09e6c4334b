// SPDX-License-Identifier: Apache-2.0
// Relay: stands between a client and a server, hands on every byte, and shows each to an observer.
//
// It serves one client, the first that connects. Ownership: its thread, and the client's
// connection, end with the object. Threading: the observer is called on the relay's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <thread>

#include "serialization/transport/connection.h"
#include "serialization/transport/socket.h"

namespace djinn::testing {

class Relay {
 public:
  enum class Way : uint8_t { kToServer, kToClient };
  // Called with each piece before it goes on.
  using Observer = std::function<void(Way, std::span<const std::byte>)>;

  // Hands on at most `piece_bytes` at a time. Throws std::runtime_error if it cannot listen.
  Relay(const std::string& server, Observer observer, size_t piece_bytes = size_t{1} << 16);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }
  // Waits until client or server has gone; the observer is not called again.
  void wait();

 private:
  void run();
  void pass(int client, int server);

  const transport::Address server_;
  const Observer observer_;
  const size_t piece_bytes_;
  transport::Fd listener_;
  transport::Fd stop_;  // An eventfd: readable when the relay is to end.
  std::string address_;
  std::thread thread_;
};

}  // namespace djinn::testing
