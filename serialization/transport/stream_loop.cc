// SPDX-License-Identifier: Apache-2.0
#include "serialization/transport/stream_loop.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace djinn::transport {
namespace {

class StreamConnection final : public Connection {
 public:
  StreamConnection(StreamLoop& loop, Stream& stream) : loop_(loop), stream_(stream) {}
  ~StreamConnection() override { loop_.abandon(stream_); }
  StreamConnection(const StreamConnection&) = delete;
  StreamConnection& operator=(const StreamConnection&) = delete;

  void send(FrameKind kind, Bytes message, Bytes payload, OnSent done) override {
    loop_.send(stream_, kind, message, payload, std::move(done));
  }
  [[nodiscard]] uint64_t unsent_bytes() const override { return stream_.queue.unsent_bytes(); }
  void close(std::chrono::milliseconds linger) override { loop_.close(stream_, linger); }
  void pause_reading(bool paused) override { loop_.pause_reading(stream_, paused); }
  [[nodiscard]] const std::string& peer() const override { return stream_.peer; }

  [[nodiscard]] Stream& stream() { return stream_; }

 private:
  StreamLoop& loop_;
  Stream& stream_;
};

}  // namespace

// -- what a Connection asks for

std::unique_ptr<Connection> StreamLoop::adopt(std::unique_ptr<Stream> stream, std::string peer) {
  Stream& at = *stream;
  at.peer = std::move(peer);
  streams_.emplace(&at, std::move(stream));
  return std::make_unique<StreamConnection>(*this, at);
}

void StreamLoop::start(Connection& connection, FrameSink& sink) {
  Stream& stream = static_cast<StreamConnection&>(connection).stream();
  assert(stream.sink == nullptr);
  stream.sink = &sink;
  mark(stream);
}

void StreamLoop::send(Stream& stream, FrameKind kind, Bytes message, Bytes payload, OnSent done) {
  if (stream.closed || stream.closing || stream.send_broken) {
    if (done) stream.queue.finished().push_back(std::move(done));
  } else {
    stream.queue.push(kind, message, payload, std::move(done));
  }
  mark(stream);
}

void StreamLoop::close(Stream& stream, std::chrono::milliseconds linger) {
  if (stream.closed || stream.closing) return;
  stream.closing = true;
  stream.reader.stop();
  stream.close_by = Clock::now() + linger;
  closing_.push_back(&stream);
  mark(stream);
}

void StreamLoop::pause_reading(Stream& stream, bool paused) {
  stream.reader.pause(paused);
  if (!paused) mark(stream);
}

void StreamLoop::abandon(Stream& stream) {
  stream.owned = false;
  stream.reader.stop();
  if (!stream.closed) {
    stream.closed = true;
    end_io(stream);
    stream.queue.drop_all();
  }
  run_finished(stream);
  abandoned_.push_back(&stream);
}

// -- what happened to the bytes

size_t StreamLoop::on_received(Stream& stream, size_t bytes) {
  stream.reader.received(bytes);
  mark(stream);
  return deliver(stream);
}

size_t StreamLoop::on_input_ended(Stream& stream, Error reason) {
  if (!stream.input_ended) stream.input_ended = std::move(reason);
  return deliver(stream);
}

size_t StreamLoop::on_sent(Stream& stream) {
  if (stream.wants_output() || stream.closing) mark(stream);
  return run_finished(stream);
}

size_t StreamLoop::on_send_failed(Stream& stream) {
  stream.send_broken = true;
  mark(stream);
  return 0;
}

// -- the steps of run_once

void StreamLoop::mark(Stream& stream) {
  if (std::exchange(stream.ready, true)) return;
  ready_.push_back(&stream);
}

void StreamLoop::bury() {
  if (abandoned_.empty()) return;
  const auto is_abandoned = [](const Stream* stream) { return !stream->owned; };
  std::erase_if(ready_, is_abandoned);
  std::erase_if(closing_, is_abandoned);
  std::erase_if(abandoned_, [&](const Stream* stream) {
    return !in_use(*stream) && streams_.erase(stream) > 0;
  });
}

size_t StreamLoop::settle_ready() {
  // Those that the callbacks make ready are looked at next time, which then comes at once.
  const size_t count = ready_.size();
  size_t calls = 0;
  for (size_t i = 0; i < count; ++i) {
    Stream& stream = *ready_[i];
    stream.ready = false;
    calls += settle(stream);
  }
  // Only now: no callback can destroy what is about to be handed to the kernel.
  for (size_t i = 0; i < count; ++i) {
    if (ready_[i]->owned && !ready_[i]->closed) start_io(*ready_[i]);
  }
  ready_.erase(ready_.begin(), ready_.begin() + static_cast<ptrdiff_t>(count));
  return calls;
}

size_t StreamLoop::settle(Stream& stream) {
  size_t calls = run_finished(stream);
  if (!stream.owned || stream.closed) return calls;
  if (stream.closing && (stream.queue.idle() || stream.send_broken)) {
    return calls + finish(stream, {ErrorCode::kCancelled, stream.peer + ": closed"});
  }
  return calls + deliver(stream);
}

size_t StreamLoop::expire() {
  if (closing_.empty()) return 0;
  std::erase_if(closing_, [](const Stream* stream) { return !stream->owned || stream->closed; });
  const std::vector<Stream*> closing = closing_;
  const Clock::time_point now = Clock::now();
  size_t calls = 0;
  for (Stream* stream : closing) {
    if (!stream->owned || stream->closed || stream->close_by > now) continue;
    calls += finish(*stream, {ErrorCode::kCancelled, stream->peer + ": closed, not all was sent"});
  }
  return calls;
}

std::chrono::nanoseconds StreamLoop::bounded(std::chrono::nanoseconds timeout) const {
  if (closing_.empty() || timeout.count() == 0) return timeout;
  const auto first = std::min_element(
      closing_.begin(), closing_.end(),
      [](const Stream* one, const Stream* other) { return one->close_by < other->close_by; });
  const auto left = std::max<std::chrono::nanoseconds>((*first)->close_by - Clock::now(),
                                                       std::chrono::nanoseconds{0});
  return timeout.count() < 0 ? left : std::min(timeout, left);
}

size_t StreamLoop::deliver(Stream& stream) {
  if (stream.sink == nullptr || !stream.owned || stream.closed || stream.closing) return 0;
  Result<size_t> delivered = stream.reader.deliver(*stream.sink);
  if (!stream.owned || stream.closed) return delivered ? *delivered : 1;
  if (!delivered) return 1 + finish(stream, delivered.error());
  if (stream.closing || !stream.input_ended) return *delivered;
  if (stream.reader.inside_frame() && !stream.reader.wants_input()) return *delivered;  // Paused.
  Error reason = *stream.input_ended;
  if (stream.reader.inside_frame()) reason.message += " in the middle of a frame";
  return *delivered + finish(stream, reason);
}

size_t StreamLoop::finish(Stream& stream, const Error& reason) {
  stream.closed = true;
  stream.reader.stop();
  end_io(stream);
  stream.queue.drop_all();
  size_t calls = run_finished(stream);
  if (!stream.owned || stream.sink == nullptr) return calls;
  stream.told = true;
  stream.sink->on_closed(reason);
  return calls + 1;
}

size_t StreamLoop::run_finished(Stream& stream) {
  // One by one: if a callback destroys the connection, abandon() runs the rest of them.
  size_t calls = 0;
  for (auto& finished = stream.queue.finished(); !finished.empty(); ++calls) {
    const OnSent done = std::move(finished.front());
    finished.pop_front();
    done();
  }
  return calls;
}

void StreamLoop::free_streams() {
  ready_.clear();
  closing_.clear();
  abandoned_.clear();
  streams_.clear();
}

}  // namespace djinn::transport
