// SPDX-License-Identifier: Apache-2.0
// Socket bytes: what the kernel says went through this process's TCP connections.
//
// Source: TCP_INFO (tcp(7)), tcpi_bytes_acked and tcpi_bytes_received: payload, without headers and
// retransmissions. Threading: any thread.
#pragma once

#include <cstdint>

namespace djinn::benchmarks {

struct SocketBytes {
  uint64_t sent = 0;  // and acknowledged by the peer's kernel
  uint64_t received = 0;
};

// Of all open connections of this process to `port` together.
[[nodiscard]] SocketBytes socket_bytes(uint16_t port);

// The port of "tcp://host:port"; throws std::invalid_argument for anything else.
[[nodiscard]] uint16_t port_of(const char* address);

}  // namespace djinn::benchmarks
