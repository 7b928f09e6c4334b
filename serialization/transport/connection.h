// SPDX-License-Identifier: Apache-2.0
// Connection and Loop: an ordered, two-way stream of frames, and the thing that moves it.
//
// Why an interface: the same suite (tests/conformance/transport) runs over io_uring on TCP and unix
// sockets, over poll(2) where io_uring is forbidden, and over an in-process pair; sessions never
// know which one they have. Why a sink that names the destination: the bytes of a tensor go from
// the socket to where they are wanted, and no buffer in user space lies between.
//
// Ownership: the app owns loops and connections; a Connection must die before its Loop. `send`
// borrows its pieces until `done` runs (the header is copied). A Connection may be destroyed at any
// time, also inside of a callback of its own: the destructor runs every `done` that is left, and
// when it returns, nothing is called back any more and the kernel touches no memory of the owner.
// Threading: one thread at a time may touch a loop and its connections (the client holds a lock,
// the server has one I/O thread); only Loop::wake may be called from anywhere.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "serialization/base/result.h"
#include "serialization/transport/frame.h"

namespace djinn::transport {

using Bytes = std::span<const std::byte>;

// tcp://host:port, tcp://[v6]:port or unix:///path; port 0 lets the system choose (listening only).
struct Address {
  enum class Kind : uint8_t { kTcp, kUnix };
  Kind kind = Kind::kTcp;
  std::string host;  // or the path
  uint16_t port = 0;
  // True for unix sockets and for loopback IP addresses.
  [[nodiscard]] bool is_local() const;
  [[nodiscard]] std::string text() const;
};
// kInvalid with the accepted forms for anything else.
Result<Address> parse_address(const std::string& text);

// What a connection's owner wants to hear. Called from Loop::run_once only.
class FrameSink {
 public:
  virtual ~FrameSink() = default;

  // A header and its message have arrived (message is valid during the call, 8-byte aligned).
  // Returns where the payload goes: exactly header.payload_bytes long, alive until on_payload or
  // on_closed; an empty span discards the payload. An Error closes the connection (on_closed gets
  // it).
  virtual Result<std::span<std::byte>> on_message(const FrameHeader& header, Bytes message) = 0;

  // The payload announced by the last on_message is where it was wanted. Not called for frames
  // without payload, nor for a payload that is discarded.
  virtual void on_payload() = 0;

  // Once, last, after every `done`: the peer is gone (kUnavailable), broke the rules (kInvalid) or
  // we closed it.
  virtual void on_closed(const Error& reason) = 0;
};

// Runs once, also when the connection closes first; inside of run_once or of a destructor. A frame
// with an OnSent ends the wait of run_once when it is sent, one without does not.
using OnSent = std::function<void()>;

class Connection {
 public:
  virtual ~Connection() = default;

  // Queues one frame: message (a multiple of 8 bytes) and payload, in order with earlier calls.
  // Small messages (<= 256 bytes) with small payloads (<= 256 bytes) are copied and `done` may be
  // null; larger ones are borrowed until `done`. Payloads of at least the loop's zero-copy
  // threshold go out with SEND_ZC, whose `done` runs when the kernel no longer needs the memory.
  // After the connection closed: `done` runs, nothing else happens.
  virtual void send(FrameKind kind, Bytes message, Bytes payload, OnSent done) = 0;

  // Bytes accepted by send and not yet taken by the kernel.
  [[nodiscard]] virtual uint64_t unsent_bytes() const = 0;

  // Closes after what was queued has been sent (at most `linger`), then on_closed(kCancelled).
  virtual void close(std::chrono::milliseconds linger) = 0;

  // While paused, no further frame is delivered (the kernel's buffer and the peer fill up).
  virtual void pause_reading(bool paused) = 0;

  [[nodiscard]] virtual const std::string& peer() const = 0;  // For messages to people.
};

// Counters of a loop since it was made; bytes include headers and padding.
struct LoopStats {
  uint64_t enters = 0;  // System calls that submitted or waited (io_uring_enter or poll).
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  uint64_t frames_sent = 0;
  uint64_t frames_received = 0;
  uint64_t zero_copy_sends = 0;
  uint64_t payload_bytes_copied = 0;  // Payload bytes that passed through a buffer of ours.
};

class Loop {
 public:
  virtual ~Loop() = default;

  // Submits what is queued, waits at most `timeout` for the first completion (0: does not wait;
  // negative: forever), runs the callbacks of all that completed. One system call when nothing
  // waits. Returns the number of callbacks run; kCancelled when a signal interrupted the wait.
  virtual Result<size_t> run_once(std::chrono::nanoseconds timeout) = 0;

  // Makes the current or next run_once return. Any thread; async-signal-safe.
  virtual void wake() = 0;

  using OnAccept = std::function<void(std::unique_ptr<Connection>)>;
  // Accepts until the returned guard dies. kInvalid or kUnavailable name the address and the cause.
  // A stale unix socket file whose server is gone is replaced; a live one is an error.
  struct Listener {
    virtual ~Listener() = default;
    [[nodiscard]] virtual const Address& address() const = 0;  // With the port that was chosen.
  };
  virtual Result<std::unique_ptr<Listener>> listen(const Address& address, OnAccept on_accept) = 0;

  // Connects within `timeout`; blocks, and is used before the loop runs. The error names the
  // address.
  virtual Result<std::unique_ptr<Connection>> connect(const Address& address,
                                                      std::chrono::milliseconds timeout) = 0;

  // Must be called once for each connection before anything is received on it.
  virtual void start(Connection& connection, FrameSink& sink) = 0;

  [[nodiscard]] virtual const LoopStats& stats() const = 0;
  [[nodiscard]] virtual const char* kind() const = 0;  // "io_uring" or "poll"
};

struct LoopOptions {
  // Only the thread that first calls run_once ever does (DEFER_TASKRUN; the loop may be made and
  // destroyed elsewhere, but destroyed after that thread ended).
  bool single_thread = false;
  // SEND_ZC from this payload size on; 0: the measured default (never to a peer on this machine).
  uint64_t zero_copy_bytes = 0;
  bool force_poll = false;  // For tests; DJINN_IO=poll in the environment does the same.
};
// io_uring where the kernel allows it, else poll(2) with one log line that says why.
Result<std::unique_ptr<Loop>> make_loop(const LoopOptions& options);

}  // namespace djinn::transport
