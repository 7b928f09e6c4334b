// SPDX-License-Identifier: Apache-2.0
// SendQueue: the frames of one connection that are on their way out, in order.
//
// What is small is copied behind its header and needs no care; what is large is borrowed. gather()
// names the next bytes as pieces for one sendmsg: many small frames together, or one that is large
// enough for a zero-copy send by itself.
//
// Ownership: borrows messages and payloads of frames until it has moved their `done` to finished().
// Threading: the loop's thread.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "serialization/transport/connection.h"
#include "serialization/transport/frame.h"

namespace djinn::transport {

inline constexpr size_t kSendCopyBytesMax = 256;  // Of a message, and of a payload beside it.

// One frame; it does not move while the kernel knows its parts.
struct OutgoingFrame {
  std::array<std::byte, kFrameHeaderBytes + 2 * kSendCopyBytesMax + 8> head;
  size_t head_bytes = 0;  // The header and what is copied.
  Bytes message;          // Borrowed; empty if copied.
  Bytes payload;          // Borrowed; empty if copied.
  size_t padding_bytes = 0;
  uint64_t sent = 0;
  uint32_t holds = 0;  // Zero-copy sends that still refer to it.
  OnSent done;

  [[nodiscard]] uint64_t bytes() const {
    return head_bytes + message.size() + payload.size() + padding_bytes;
  }
};

class SendQueue {
 public:
  explicit SendQueue(LoopStats& stats) : stats_(stats) {}

  void push(FrameKind kind, Bytes message, Bytes payload, OnSent done);

  [[nodiscard]] bool empty() const { return frames_.empty(); }  // Nothing left to hand out.
  [[nodiscard]] bool idle() const { return frames_.empty() && held_.empty(); }
  [[nodiscard]] uint64_t unsent_bytes() const { return unsent_bytes_; }

  struct Gathered {
    size_t pieces = 0;
    uint64_t bytes = 0;
    bool awaited = false;                // Somebody wants to hear when they are sent.
    OutgoingFrame* zero_copy = nullptr;  // Set when this one frame should go without a copy.
  };
  // The next bytes to send, as pieces. `zero_copy_bytes`: payloads from this size on go alone.
  [[nodiscard]] Gathered gather(std::span<iovec> pieces, uint64_t zero_copy_bytes);
  // The first `bytes` of what was gathered are the kernel's.
  void advance(uint64_t bytes);

  // A zero-copy send of this frame began; and the kernel no longer refers to it.
  static void hold(OutgoingFrame& frame) { ++frame.holds; }
  void release(OutgoingFrame& frame);

  // Forgets everything; only when the kernel refers to nothing. The callbacks are in finished().
  void drop_all();

  // The callbacks of the frames that are done, in order; the caller takes and runs them.
  [[nodiscard]] std::deque<OnSent>& finished() { return finished_; }

 private:
  void finish(OutgoingFrame& frame);

  LoopStats& stats_;
  std::deque<std::unique_ptr<OutgoingFrame>> frames_;
  std::vector<std::unique_ptr<OutgoingFrame>> held_;  // Sent, and not yet released.
  std::deque<OnSent> finished_;
  uint64_t unsent_bytes_ = 0;
};

}  // namespace djinn::transport
