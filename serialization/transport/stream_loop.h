// SPDX-License-Identifier: Apache-2.0
// StreamLoop: what all loops share: who is connected, what is delivered, how a connection ends.
//
// A Stream is the state behind a Connection. It may outlive it, because a kernel that was asked to
// receive into its buffer has not yet answered. A loop adds only how bytes move: start_io() says
// "this stream may have something to send, or room to receive", and it answers with on_received,
// on_sent and on_input_ended.
//
// Why a list of ready streams: a loop with thousands of idle connections looks only at those with
// something to do, and everything that callbacks caused is submitted together.
// Ownership: the loop owns the streams; a Connection points at one.
// Threading: as in connection.h.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "serialization/transport/connection.h"
#include "serialization/transport/frame_reader.h"
#include "serialization/transport/send_queue.h"

namespace djinn::transport {

using Clock = std::chrono::steady_clock;

struct Stream {
  explicit Stream(LoopStats& stats) : reader(stats), queue(stats) {}
  virtual ~Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  std::string peer;
  FrameSink* sink = nullptr;  // From start() on.
  FrameReader reader;
  SendQueue queue;
  bool owned = true;           // Its Connection is alive.
  bool closed = false;         // Nothing moves any more.
  bool closing = false;        // close() was called: nothing is received, the queue drains.
  bool told = false;           // on_closed has run.
  bool send_broken = false;    // The kernel refuses to send; what the peer had sent is still read.
  bool ready = false;          // Is in the loop's list.
  Clock::time_point close_by;  // When closing.
  std::optional<Error> input_ended;  // Reported when everything before it is delivered.

  [[nodiscard]] bool wants_input() const {
    return sink != nullptr && !closed && !closing && !input_ended && reader.wants_input();
  }
  [[nodiscard]] bool wants_output() const { return !closed && !send_broken && !queue.empty(); }
};

class StreamLoop : public Loop {
 public:
  StreamLoop() = default;
  StreamLoop(const StreamLoop&) = delete;
  StreamLoop& operator=(const StreamLoop&) = delete;

  void start(Connection& connection, FrameSink& sink) override;
  [[nodiscard]] const LoopStats& stats() const override { return stats_; }

  // What a Connection asks for.
  void send(Stream& stream, FrameKind kind, Bytes message, Bytes payload, OnSent done);
  void close(Stream& stream, std::chrono::milliseconds linger);
  void pause_reading(Stream& stream, bool paused);
  void abandon(Stream& stream);  // Its Connection is being destroyed.

 protected:
  // -- what a loop does with bytes
  // Receives if stream.wants_input(), sends if stream.wants_output(), unless it already does.
  virtual void start_io(Stream& stream) = 0;
  // Ends the stream's I/O. When it returns, the kernel touches no memory of the stream's owner.
  virtual void end_io(Stream& stream) = 0;
  // Whether the kernel still refers to the Stream itself (only after end_io).
  [[nodiscard]] virtual bool in_use(const Stream& stream) const = 0;

  // -- what happened to the bytes; each returns the number of callbacks it has run
  size_t on_received(Stream& stream, size_t bytes);
  size_t on_input_ended(Stream& stream, Error reason);
  size_t on_sent(Stream& stream);  // After a change of stream.queue.
  size_t on_send_failed(Stream& stream);

  // -- the steps of run_once
  void bury();  // Frees abandoned streams; first of all.
  size_t
  settle_ready();   // Delivers what pauses and closes left, then starts I/O for all who are ready.
  size_t expire();  // Closes those whose linger is over.
  [[nodiscard]] bool anyone_ready() const { return !ready_.empty(); }
  // The given timeout (negative: none), cut at the next linger's end.
  [[nodiscard]] std::chrono::nanoseconds bounded(std::chrono::nanoseconds timeout) const;

  std::unique_ptr<Connection> adopt(std::unique_ptr<Stream> stream, std::string peer);
  void mark(Stream& stream);  // Look at it in the next run_once.
  void free_streams();        // For destructors, after all I/O ended.
  [[nodiscard]] const auto& streams() const { return streams_; }

  LoopStats stats_;

 private:
  size_t deliver(Stream& stream);
  size_t settle(Stream& stream);
  size_t finish(Stream& stream, const Error& reason);
  static size_t run_finished(Stream& stream);

  std::unordered_map<const Stream*, std::unique_ptr<Stream>> streams_;
  std::vector<Stream*> ready_;
  std::vector<Stream*> abandoned_;
  std::vector<Stream*> closing_;
};

}  // namespace djinn::transport
