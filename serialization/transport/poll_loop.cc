// SPDX-License-Identifier: Apache-2.0
#include "serialization/transport/poll_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>
#include <vector>

#include "serialization/transport/socket.h"
#include "serialization/transport/stream_loop.h"

namespace djinn::transport {
namespace {

constexpr size_t kPiecesPerSend = 32;
constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

struct PollStream final : Stream {
  PollStream(LoopStats& stats, Fd from) : Stream(stats), fd(std::move(from)) {}
  Fd fd;
};

struct PollAcceptor {
  ListeningSocket socket;
  Loop::OnAccept on_accept;
  bool dead = false;
};

class PollLoop final : public StreamLoop {
 public:
  explicit PollLoop(Fd wake_fd) : wake_fd_(std::move(wake_fd)) {}

  Result<size_t> run_once(std::chrono::nanoseconds timeout) override;
  void wake() override {
    const uint64_t one = 1;
    (void)!::write(wake_fd_.get(), &one, sizeof one);
  }
  Result<std::unique_ptr<Listener>> listen(const Address& address, OnAccept on_accept) override;
  Result<std::unique_ptr<Connection>> connect(const Address& address,
                                              std::chrono::milliseconds timeout) override;
  [[nodiscard]] const char* kind() const override { return "poll"; }

 protected:
  void start_io(Stream& stream) override;
  void end_io(Stream& stream) override;
  [[nodiscard]] bool in_use(const Stream& /*stream*/) const override { return false; }

 private:
  std::unique_ptr<Connection> adopt_socket(ConnectedSocket socket);
  void watch_all();
  size_t serve_all();
  size_t receive(PollStream& stream);
  size_t accept(PollAcceptor& acceptor);

  Fd wake_fd_;
  std::vector<std::unique_ptr<PollAcceptor>> acceptors_;
  std::vector<pollfd> watched_;  // The wake descriptor, then acceptors, then streams.
  std::vector<PollStream*> watched_streams_;
};

class PollListener final : public Loop::Listener {
 public:
  explicit PollListener(PollAcceptor& acceptor)
      : acceptor_(acceptor), address_(acceptor.socket.address) {}
  ~PollListener() override {
    if (address_.kind == Address::Kind::kUnix) ::unlink(address_.host.c_str());
    acceptor_.socket.fd.reset();
    acceptor_.dead = true;
  }
  PollListener(const PollListener&) = delete;
  PollListener& operator=(const PollListener&) = delete;
  [[nodiscard]] const Address& address() const override { return address_; }

 private:
  PollAcceptor& acceptor_;
  Address address_;
};

// -- a round

Result<size_t> PollLoop::run_once(std::chrono::nanoseconds timeout) {
  bury();
  std::erase_if(acceptors_, [](const auto& acceptor) { return acceptor->dead; });
  size_t calls = settle_ready();
  timeout = calls > 0 || anyone_ready() ? std::chrono::nanoseconds{0} : bounded(timeout);
  watch_all();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const timespec time{.tv_sec = seconds.count(), .tv_nsec = (timeout - seconds).count()};
  ++stats_.enters;
  const int ready =
      ::ppoll(watched_.data(), watched_.size(), timeout.count() < 0 ? nullptr : &time, nullptr);
  const int error = ready < 0 ? errno : 0;
  if (error != 0 && error != EINTR) {
    return Error{ErrorCode::kFailed, "poll: " + errno_text(error)};
  }
  if (ready > 0) calls += serve_all();
  calls += expire();
  if (error == EINTR) return Error{ErrorCode::kCancelled, "a signal interrupted the wait"};
  return calls;
}

void PollLoop::watch_all() {
  watched_.clear();
  watched_streams_.clear();
  watched_.push_back({.fd = wake_fd_.get(), .events = POLLIN, .revents = 0});
  for (const auto& acceptor : acceptors_) {
    watched_.push_back({.fd = acceptor->socket.fd.get(), .events = POLLIN, .revents = 0});
  }
  for (const auto& [at, stream] : streams()) {
    const int events =
        (stream->wants_input() ? POLLIN : 0) | (stream->wants_output() ? POLLOUT : 0);
    if (events == 0) continue;
    auto& watched = static_cast<PollStream&>(*stream);
    watched_.push_back(
        {.fd = watched.fd.get(), .events = static_cast<int16_t>(events), .revents = 0});
    watched_streams_.push_back(&watched);
  }
}

size_t PollLoop::serve_all() {
  size_t calls = 0;
  if (watched_[0].revents != 0) {
    uint64_t ignored = 0;
    (void)!::read(wake_fd_.get(), &ignored, sizeof ignored);
  }
  const size_t streams_from = watched_.size() - watched_streams_.size();
  for (size_t i = 1; i < streams_from; ++i) {
    if (watched_[i].revents != 0) calls += accept(*acceptors_[i - 1]);
  }
  for (size_t i = 0; i < watched_streams_.size(); ++i) {
    const pollfd& watched = watched_[streams_from + i];
    PollStream& stream = *watched_streams_[i];
    if (watched.revents == 0 || stream.closed) continue;
    if (stream.wants_output()) mark(stream);  // Sent by the next round, which comes at once.
    if (stream.wants_input() && (watched.revents & ~POLLOUT) != 0) calls += receive(stream);
  }
  return calls;
}

// -- bytes

void PollLoop::start_io(Stream& base) {
  auto& stream = static_cast<PollStream&>(base);
  std::array<iovec, kPiecesPerSend> pieces;
  while (stream.wants_output()) {
    const auto gathered = stream.queue.gather(pieces, kNever);
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = gathered.pieces;
    const ssize_t sent = ::sendmsg(stream.fd.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN && errno != EINTR) on_send_failed(stream);
      break;
    }
    stream.queue.advance(static_cast<uint64_t>(sent));
    if (static_cast<uint64_t>(sent) < gathered.bytes) break;
  }
  if (!stream.queue.finished().empty() || (stream.closing && stream.queue.idle())) mark(stream);
}

size_t PollLoop::receive(PollStream& stream) {
  const FrameReader::Target target = stream.reader.target();
  const ssize_t received =
      ::recv(stream.fd.get(), target.bytes.data(), target.bytes.size(), MSG_DONTWAIT);
  if (received > 0) return on_received(stream, static_cast<size_t>(received));
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  const std::string cause = received == 0 ? "the peer closed the connection" : errno_text(errno);
  return on_input_ended(stream, {ErrorCode::kUnavailable, stream.peer + ": " + cause});
}

void PollLoop::end_io(Stream& base) {
  auto& stream = static_cast<PollStream&>(base);
  end_socket(stream.fd.get(), false);
  stream.fd.reset();
}

// -- meeting

std::unique_ptr<Connection> PollLoop::adopt_socket(ConnectedSocket socket) {
  return adopt(std::make_unique<PollStream>(stats_, std::move(socket.fd)), std::move(socket.peer));
}

Result<std::unique_ptr<Connection>> PollLoop::connect(const Address& address,
                                                      std::chrono::milliseconds timeout) {
  DJINN_TRY(auto socket, connect_socket(address, timeout));
  return adopt_socket(std::move(socket));
}

Result<std::unique_ptr<Loop::Listener>> PollLoop::listen(const Address& address,
                                                         OnAccept on_accept) {
  DJINN_TRY(auto socket, listen_socket(address));
  const int flags = ::fcntl(socket.fd.get(), F_GETFL);
  if (::fcntl(socket.fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return Error{ErrorCode::kInvalid, address.text() + ": " + errno_text(errno)};
  }
  auto acceptor = std::make_unique<PollAcceptor>();
  acceptor->socket = std::move(socket);
  acceptor->on_accept = std::move(on_accept);
  acceptors_.push_back(std::move(acceptor));
  return std::make_unique<PollListener>(*acceptors_.back());
}

size_t PollLoop::accept(PollAcceptor& acceptor) {
  if (acceptor.dead) return 0;
  Fd fd(::accept4(acceptor.socket.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.valid()) {
    if (errno == EMFILE || errno == ENFILE) ::usleep(1000);  // Not as fast as we can.
    return 0;
  }
  acceptor.on_accept(adopt_socket(accepted_socket(std::move(fd))));
  return 1;
}

}  // namespace

Result<std::unique_ptr<Loop>> make_poll_loop(const LoopOptions& /*options*/) {
  Fd wake_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_fd.valid()) return Error{ErrorCode::kFailed, "eventfd: " + errno_text(errno)};
  return std::make_unique<PollLoop>(std::move(wake_fd));
}

}  // namespace djinn::transport
