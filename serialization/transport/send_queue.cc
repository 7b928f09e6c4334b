// SPDX-License-Identifier: Apache-2.0
#include "serialization/transport/send_queue.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "serialization/base/limits.h"

namespace djinn::transport {
namespace {

constexpr uint64_t kGatherBytesMax = uint64_t{1} << 30;  // A send's length is 32 bits, and signed.
constexpr std::array<std::byte, 8> kZeros{};

void append(OutgoingFrame& frame, Bytes bytes) {
  if (bytes.empty()) return;
  assert(frame.head_bytes + bytes.size() <= frame.head.size());
  std::memcpy(frame.head.data() + frame.head_bytes, bytes.data(), bytes.size());
  frame.head_bytes += bytes.size();
}

// Adds the parts of a frame that are not yet sent; stops when the pieces or the length run out.
void add_rest(const OutgoingFrame& frame, std::span<iovec> pieces, SendQueue::Gathered& gathered) {
  const std::array<Bytes, 4> parts = {Bytes(frame.head).first(frame.head_bytes), frame.message,
                                      frame.payload, Bytes(kZeros).first(frame.padding_bytes)};
  uint64_t skip = frame.sent;
  for (Bytes part : parts) {
    const uint64_t skipped = std::min<uint64_t>(skip, part.size());
    skip -= skipped;
    part = part.subspan(skipped);
    part = part.first(std::min<uint64_t>(part.size(), kGatherBytesMax - gathered.bytes));
    if (part.empty()) continue;
    if (gathered.pieces == pieces.size()) return;
    pieces[gathered.pieces++] = {.iov_base = const_cast<std::byte*>(part.data()),
                                 .iov_len = part.size()};
    gathered.bytes += part.size();
    if (gathered.bytes == kGatherBytesMax) return;
  }
}

}  // namespace

void SendQueue::push(FrameKind kind, Bytes message, Bytes payload, OnSent done) {
  assert(message.size() % 8 == 0 && message.size() <= kMessageBytesMax);
  assert(payload.size() <= kPayloadBytesMax);
  std::unique_ptr<OutgoingFrame> frame(new OutgoingFrame);  // Not zeroed, as make_unique would.
  const FrameHeaderBytes header =
      encode({.kind = kind, .message_bytes = message.size(), .payload_bytes = payload.size()});
  append(*frame, header);
  frame->message = message;
  frame->payload = payload;
  frame->padding_bytes = padding(payload.size());
  if (message.size() <= kSendCopyBytesMax) {
    append(*frame, std::exchange(frame->message, {}));
    if (payload.size() <= kSendCopyBytesMax) {
      stats_.payload_bytes_copied += payload.size();
      append(*frame, std::exchange(frame->payload, {}));
      append(*frame, Bytes(kZeros).first(std::exchange(frame->padding_bytes, 0)));
    }
  }
  frame->done = std::move(done);
  unsent_bytes_ += frame->bytes();
  frames_.push_back(std::move(frame));
}

SendQueue::Gathered SendQueue::gather(std::span<iovec> pieces, uint64_t zero_copy_bytes) {
  Gathered gathered;
  for (const auto& frame : frames_) {
    const bool zero_copy = frame->payload.size() >= zero_copy_bytes;
    if (zero_copy && gathered.pieces > 0) break;
    add_rest(*frame, pieces, gathered);
    if (zero_copy) gathered.zero_copy = frame.get();
    gathered.awaited |= frame->done != nullptr;
    if (zero_copy || gathered.pieces == pieces.size() || gathered.bytes == kGatherBytesMax) break;
  }
  return gathered;
}

void SendQueue::advance(uint64_t bytes) {
  stats_.bytes_sent += bytes;
  unsent_bytes_ -= bytes;
  while (!frames_.empty()) {
    OutgoingFrame& front = *frames_.front();
    const uint64_t here = std::min(bytes, front.bytes() - front.sent);
    front.sent += here;
    bytes -= here;
    if (front.sent < front.bytes()) break;
    ++stats_.frames_sent;
    if (front.holds > 0) {
      held_.push_back(std::move(frames_.front()));
    } else {
      finish(front);
    }
    frames_.pop_front();
  }
  assert(bytes == 0);
}

void SendQueue::release(OutgoingFrame& frame) {
  if (--frame.holds > 0) return;
  const auto at = std::find_if(held_.begin(), held_.end(),
                               [&](const auto& held) { return held.get() == &frame; });
  if (at == held_.end()) return;  // Not wholly sent yet.
  finish(frame);
  held_.erase(at);
}

void SendQueue::drop_all() {
  for (const auto& frame : held_) finish(*frame);
  for (const auto& frame : frames_) finish(*frame);
  held_.clear();
  frames_.clear();
  unsent_bytes_ = 0;
}

void SendQueue::finish(OutgoingFrame& frame) {
  if (frame.done) finished_.push_back(std::move(frame.done));
}

}  // namespace djinn::transport
