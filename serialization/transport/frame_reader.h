// SPDX-License-Identifier: Apache-2.0
// FrameReader: says where the next received bytes belong, and hands whole messages to the sink.
//
// Small frames are parsed where they were received, in one buffer of kReceiveBufferBytes. A message
// that does not fit gets memory of its own, which grows as its bytes arrive, so that announcing
// sixteen megabytes costs a peer sixteen megabytes. A payload goes straight to where the sink wants
// it, but for those of its bytes that came along with its message.
//
// Why no I/O in it: io_uring, poll and the in-process pair feed the same reader, and a test feeds
// it byte by byte.
// Ownership: owns its buffer; borrows the payload's destination from on_message to on_payload.
// Threading: the loop's thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"
#include "serialization/transport/frame.h"

namespace djinn::transport {

class FrameReader {
 public:
  explicit FrameReader(LoopStats& stats) : stats_(stats) {}

  struct Target {
    std::span<std::byte> bytes;  // Never empty.
    bool whole = false;          // All of it is wanted before anything can be done with it.
    bool borrowed = false;       // It is the sink's memory, not ours.
  };
  // Where to receive next. Valid until the next call of a method.
  Target target();
  // That many bytes were received into the target.
  void received(size_t bytes);

  // Hands what is complete to the sink, which may call stop() or pause() meanwhile. Returns the
  // number of calls; an Error (of a peer that broke the rules, or of the sink) ends the connection.
  Result<size_t> deliver(FrameSink& sink);

  void pause(bool paused) { paused_ = paused; }
  // Nothing is delivered any more. The buffers stay: the kernel may still write into them.
  void stop();

  // Between two frames, or inside of one?
  [[nodiscard]] bool inside_frame() const { return stage_ != Stage::kHeader || begin_ != end_; }
  // False while paused between frames: then nothing more should be received.
  [[nodiscard]] bool wants_input() const { return !stopped_ && !(paused_ && between_frames()); }

 private:
  enum class Stage : uint8_t { kHeader, kMessage, kLargeMessage, kPayload, kSkip };

  [[nodiscard]] bool between_frames() const {
    return stage_ == Stage::kHeader || stage_ == Stage::kMessage || stage_ == Stage::kLargeMessage;
  }
  [[nodiscard]] size_t staged() const { return end_ - begin_; }
  [[nodiscard]] std::byte* buffer();

  // Each returns whether there is more to do with what has arrived.
  Result<bool> read_header();
  Result<bool> read_message(FrameSink& sink, size_t& calls);
  Result<bool> announce(FrameSink& sink, Bytes message, size_t& calls);
  bool read_payload(FrameSink& sink, size_t& calls);
  bool skip();
  Target staging_target();

  LoopStats& stats_;
  std::unique_ptr<std::byte[]> buffer_;
  size_t begin_ = 0;  // Of what has arrived and is not parsed; a multiple of 8 between frames.
  size_t end_ = 0;
  Stage stage_ = Stage::kHeader;
  bool paused_ = false;
  bool stopped_ = false;
  FrameHeader header_;
  std::vector<std::byte> large_;  // A message that does not fit into the buffer.
  size_t large_bytes_ = 0;        // So much of it has arrived.
  std::span<std::byte> payload_;  // What is still missing of it.
  uint64_t skip_bytes_ = 0;       // Padding, or a payload that nobody wants.
};

}  // namespace djinn::transport
