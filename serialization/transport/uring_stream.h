// SPDX-License-Identifier: Apache-2.0
// UringStream: a stream and the operations that io_uring has of it in flight.
//
// Ownership: the loop's; lives until all its operations came back. Threading: the loop's thread.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "serialization/transport/socket.h"
#include "serialization/transport/stream_loop.h"
#include "serialization/transport/uring.h"

namespace djinn::transport {

inline constexpr size_t kPiecesPerSend = 32;

struct UringStream final : Stream {
  UringStream(LoopStats& stats, Fd socket, uint64_t zero_copy_from)
      : Stream(stats), fd(std::move(socket)), zero_copy_bytes(zero_copy_from) {
    receive.kind = UringOp::Kind::kReceive;
    receive.owner = this;
    send.kind = UringOp::Kind::kSend;
    send.owner = this;
  }

  // One zero-copy send: its result comes first, its memory back later.
  struct ZeroCopy : UringOp {
    OutgoingFrame* frame = nullptr;
  };

  Fd fd;
  uint64_t zero_copy_bytes;  // Payloads from this size on go out without a copy.

  UringOp receive;
  bool receiving = false;
  bool receive_borrows = false;  // ... into memory of the sink.
  bool input_waits = false;      // The socket had more than the last receive took.

  UringOp send;
  bool sending = false;
  bool silent = false;   // ... and hears nothing if all went well.
  bool blocked = false;  // The socket took less than it was offered.
  uint64_t gathered_bytes = 0;
  msghdr message{};
  std::array<iovec, kPiecesPerSend> pieces;
  std::vector<std::unique_ptr<ZeroCopy>> zero_copies;  // In flight.

  [[nodiscard]] bool kernel_borrows() const {
    return (receiving && receive_borrows) || sending || !zero_copies.empty();
  }
};

}  // namespace djinn::transport
