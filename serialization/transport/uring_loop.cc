// SPDX-License-Identifier: Apache-2.0
#include "serialization/transport/uring_loop.h"

#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>
#include <vector>

#include "serialization/base/limits.h"
#include "serialization/transport/socket.h"
#include "serialization/transport/stream_loop.h"
#include "serialization/transport/uring.h"
#include "serialization/transport/uring_acceptors.h"
#include "serialization/transport/uring_stream.h"

namespace djinn::transport {
namespace {

using namespace std::chrono_literals;
using Kind = UringOp::Kind;

constexpr size_t kReceiveBytesMax = size_t{1} << 30;  // An operation's length is 32 bits.

// From where on a payload is sent without a copy; figures in docs/decisions/0001-zero-copy-send.md.
// To a peer on this machine the kernel copies after all, and the median throughput was 0.54 to 0.79
// of plain sends from 64 KiB to 500 MiB (but for one stray 1.4), so never. To others, where the
// card reads the pages, this is a guess on the safe side: there was no second machine to measure.
constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kRemoteZeroCopyBytes = 64 << 10;

class UringLoop final : public StreamLoop {
 public:
  UringLoop(std::unique_ptr<Uring> ring, Fd wake_fd, const LoopOptions& options)
      : ring_(std::move(ring)),
        wake_fd_(std::move(wake_fd)),
        options_(options),
        acceptors_(*ring_,
                   [this](ConnectedSocket socket) { return adopt_socket(std::move(socket)); }) {
    wake_.kind = Kind::kWake;
  }
  ~UringLoop() override;

  Result<size_t> run_once(std::chrono::nanoseconds timeout) override;
  void wake() override;
  Result<std::unique_ptr<Listener>> listen(const Address& address, OnAccept on_accept) override {
    return acceptors_.listen(address, std::move(on_accept));
  }
  Result<std::unique_ptr<Connection>> connect(const Address& address,
                                              std::chrono::milliseconds timeout) override;
  [[nodiscard]] const char* kind() const override { return "io_uring"; }

 protected:
  void start_io(Stream& stream) override;
  void end_io(Stream& stream) override;
  [[nodiscard]] bool in_use(const Stream& stream) const override;

 private:
  std::unique_ptr<Connection> adopt_socket(ConnectedSocket socket);
  void start_receive(UringStream& stream);
  void start_send(UringStream& stream);
  void start_zero_copy(UringStream& stream, OutgoingFrame& frame);
  void start_wake();
  Uring::Wait enter(bool wait, std::chrono::nanoseconds timeout);
  size_t confirm_silent();

  size_t complete_all();
  size_t complete(const UringCompletion& completion);
  size_t on_receive(UringStream& stream, const UringCompletion& completion);
  size_t on_send(UringStream& stream, int32_t result);
  size_t on_zero_copy(UringStream::ZeroCopy& op, const UringCompletion& completion);
  void take_own(UringStream& stream);  // Its completions, without calling anyone.
  void note(UringStream& stream, const UringCompletion& completion);

  std::unique_ptr<Uring> ring_;
  Fd wake_fd_;
  LoopOptions options_;
  UringOp wake_;
  bool wake_armed_ = false;
  uint64_t wake_value_ = 0;
  std::vector<UringStream*> silent_;  // Sends of the current batch.
  UringAcceptors acceptors_;
};

UringStream& of(Stream& stream) { return static_cast<UringStream&>(stream); }

// What a broken socket says. A thread that ends takes its operations with it: that is no error.
bool is_transient(int32_t result) {
  return result == -EAGAIN || result == -EINTR || result == -ECANCELED;
}

// -- a round

Result<size_t> UringLoop::run_once(std::chrono::nanoseconds timeout) {
  bury();
  start_wake();
  acceptors_.start();
  size_t calls = settle_ready();
  const bool may_wait = calls == 0 && !anyone_ready() && timeout.count() != 0;
  const Uring::Wait outcome = enter(may_wait, bounded(acceptors_.bounded(timeout)));
  if (outcome == Uring::Wait::kFailed) {
    silent_.clear();
    return Error{ErrorCode::kFailed, "io_uring_enter failed, or another thread owns this loop"};
  }
  calls += confirm_silent();
  calls += complete_all();
  calls += expire();
  if (outcome == Uring::Wait::kInterrupted) {
    return Error{ErrorCode::kCancelled, "a signal interrupted the wait"};
  }
  return calls;
}

Uring::Wait UringLoop::enter(bool wait, std::chrono::nanoseconds timeout) {
  const Uring::Wait outcome = wait && timeout.count() > 0
                                  ? ring_->enter_until(Clock::now() + timeout)
                                  : ring_->enter(wait, timeout);
  stats_.enters = ring_->enters();
  return outcome;
}

// The sends that were submitted and had nothing to say are done.
size_t UringLoop::confirm_silent() {
  for (UringStream* stream : silent_) {
    stream->silent = stream->silent && !stream->send.answered;
    if (!stream->silent) continue;
    stream->sending = false;
    if (!stream->closed) stream->queue.advance(stream->gathered_bytes);
  }
  size_t calls = 0;
  for (UringStream* stream : std::exchange(silent_, {})) {
    if (std::exchange(stream->silent, false) && !stream->closed) calls += on_sent(*stream);
  }
  return calls;
}

size_t UringLoop::complete_all() {
  size_t calls = 0;
  while (!ring_->completions().empty()) {
    const UringCompletion completion = ring_->completions().front();
    ring_->completions().pop_front();
    calls += complete(completion);
  }
  return calls;
}

size_t UringLoop::complete(const UringCompletion& completion) {
  switch (completion.op->kind) {
    case Kind::kReceive:
      return on_receive(*static_cast<UringStream*>(completion.op->owner), completion);
    case Kind::kSend: {
      auto& stream = *static_cast<UringStream*>(completion.op->owner);
      stream.sending = false;
      return stream.closed ? 0 : on_send(stream, completion.result);
    }
    case Kind::kZeroCopy:
      return on_zero_copy(static_cast<UringStream::ZeroCopy&>(*completion.op), completion);
    case Kind::kAccept:
      return acceptors_.complete(completion);
    case Kind::kWake:
      wake_armed_ = false;
      return 0;
    case Kind::kAlarm:
    case Kind::kIgnored:
      return 0;
  }
  return 0;
}

// -- receiving

void UringLoop::start_io(Stream& stream) {
  if (stream.wants_output()) start_send(of(stream));
  if (stream.wants_input()) start_receive(of(stream));
}

void UringLoop::start_receive(UringStream& stream) {
  if (stream.receiving) return;
  io_uring_sqe* const sqe = ring_->prepare(stream.receive);
  if (sqe == nullptr) return;
  const FrameReader::Target target = stream.reader.target();
  io_uring_prep_recv(sqe, stream.fd.get(), target.bytes.data(),
                     std::min(target.bytes.size(), kReceiveBytesMax),
                     target.whole ? MSG_WAITALL : 0);
  if (!stream.input_waits) sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
  stream.receiving = true;
  stream.receive_borrows = target.borrowed;
}

size_t UringLoop::on_receive(UringStream& stream, const UringCompletion& completion) {
  stream.receiving = false;
  if (stream.closed) return 0;
  stream.input_waits = (completion.flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
  if (completion.result > 0) return on_received(stream, static_cast<size_t>(completion.result));
  if (is_transient(completion.result)) {
    mark(stream);
    return 0;
  }
  const std::string cause =
      completion.result == 0 ? "the peer closed the connection" : errno_text(-completion.result);
  return on_input_ended(stream, {ErrorCode::kUnavailable, stream.peer + ": " + cause});
}

// -- sending

void UringLoop::start_send(UringStream& stream) {
  if (stream.sending) return;
  const auto gathered = stream.queue.gather(stream.pieces, stream.zero_copy_bytes);
  stream.message = {};
  stream.message.msg_iov = stream.pieces.data();
  stream.message.msg_iovlen = gathered.pieces;
  stream.gathered_bytes = gathered.bytes;
  if (gathered.zero_copy != nullptr) return start_zero_copy(stream, *gathered.zero_copy);
  io_uring_sqe* const sqe = ring_->prepare(stream.send);
  if (sqe == nullptr) return;
  // Who waits for `done`, or for the close behind it, must be woken by the send itself.
  stream.silent = !stream.blocked && !gathered.awaited && !stream.closing;
  const int flags = MSG_NOSIGNAL | MSG_WAITALL | (stream.silent ? MSG_DONTWAIT : 0);
  if (gathered.pieces == 1) {  // Cheaper than sendmsg by a few hundred nanoseconds.
    const iovec& piece = stream.pieces.front();
    io_uring_prep_send(sqe, stream.fd.get(), piece.iov_base, piece.iov_len, flags);
  } else {
    io_uring_prep_sendmsg(sqe, stream.fd.get(), &stream.message, static_cast<unsigned>(flags));
  }
  if (stream.silent) {
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    silent_.push_back(&stream);
  } else if (stream.blocked) {
    sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
  }
  stream.sending = true;
}

size_t UringLoop::on_send(UringStream& stream, int32_t result) {
  stream.blocked = stream.silent;
  stream.silent = false;
  if (result > 0) {
    stream.queue.advance(static_cast<uint64_t>(result));
  } else if (!is_transient(result)) {
    return on_send_failed(stream);
  }
  mark(stream);
  return on_sent(stream);
}

void UringLoop::start_zero_copy(UringStream& stream, OutgoingFrame& frame) {
  auto op = std::make_unique<UringStream::ZeroCopy>();
  op->kind = Kind::kZeroCopy;
  op->owner = &stream;
  op->frame = &frame;
  io_uring_sqe* const sqe = ring_->prepare(*op);
  if (sqe == nullptr) return;
  io_uring_prep_sendmsg_zc(sqe, stream.fd.get(), &stream.message, MSG_NOSIGNAL | MSG_WAITALL);
  SendQueue::hold(frame);
  stream.zero_copies.push_back(std::move(op));
  stream.sending = true;
  ++stats_.zero_copy_sends;
}

size_t UringLoop::on_zero_copy(UringStream::ZeroCopy& op, const UringCompletion& completion) {
  auto& stream = *static_cast<UringStream*>(op.owner);
  OutgoingFrame& frame = *op.frame;
  note(stream, completion);
  if (stream.closed) return 0;
  const bool last = (completion.flags & IORING_CQE_F_MORE) == 0;
  size_t calls = 0;
  if ((completion.flags & IORING_CQE_F_NOTIF) == 0) {
    if (completion.result == -EOPNOTSUPP) {
      stream.zero_copy_bytes = kNever;  // E.g. a unix socket.
      mark(stream);
    } else {
      calls = on_send(stream, completion.result);
    }
  }
  if (!last || stream.closed) return calls;
  stream.queue.release(frame);
  return calls + on_sent(stream);
}

// -- ending

// Updates what is in flight; `completion` belongs to the stream.
void UringLoop::note(UringStream& stream, const UringCompletion& completion) {
  if (completion.op == &stream.receive) {
    stream.receiving = false;
  } else if (completion.op == &stream.send) {
    stream.sending = false;
  } else {
    if ((completion.flags & IORING_CQE_F_NOTIF) == 0) stream.sending = false;
    if ((completion.flags & IORING_CQE_F_MORE) != 0) return;
    std::erase_if(stream.zero_copies, [&](const auto& op) { return op.get() == completion.op; });
  }
}

void UringLoop::take_own(UringStream& stream) {
  std::erase_if(ring_->completions(), [&](const UringCompletion& completion) {
    const bool own = completion.op->owner == &stream;
    if (own) note(stream, completion);
    return own;
  });
}

void UringLoop::end_io(Stream& base) {
  UringStream& stream = of(base);
  take_own(stream);
  end_socket(stream.fd.get(), !stream.zero_copies.empty());
  if (stream.kernel_borrows()) {
    if (stream.receiving) ring_->prepare_cancel(stream.receive);
    if (stream.sending) ring_->prepare_cancel(stream.send);
    for (const auto& op : stream.zero_copies) ring_->prepare_cancel(*op);
  }
  while (stream.kernel_borrows()) {
    if (enter(true, -1ns) == Uring::Wait::kFailed) {
      // Another thread owned the ring and is gone, and with it all that it had asked for.
      stream.receiving = stream.sending = false;
      stream.zero_copies.clear();
    }
    take_own(stream);
  }
  stream.fd.reset();
}

bool UringLoop::in_use(const Stream& stream) const {
  const auto& at = static_cast<const UringStream&>(stream);
  return at.receiving || at.kernel_borrows();
}

UringLoop::~UringLoop() {
  bury();
  const auto anything = [&] {
    bool in_flight = wake_armed_;
    for (const auto& [stream, owner] : streams()) in_flight |= in_use(*stream);
    return in_flight || acceptors_.in_use();
  };
  if (wake_armed_) ring_->prepare_cancel(wake_);
  while (anything()) {
    if (ring_->enter(true, -1ns) == Uring::Wait::kFailed) break;
    complete_all();
  }
  free_streams();
}

// -- waking

void UringLoop::wake() {
  const uint64_t one = 1;
  (void)!::write(wake_fd_.get(), &one, sizeof one);
}

void UringLoop::start_wake() {
  if (wake_armed_) return;
  io_uring_sqe* const sqe = ring_->prepare(wake_);
  if (sqe == nullptr) return;
  io_uring_prep_read(sqe, wake_fd_.get(), &wake_value_, sizeof wake_value_, 0);
  wake_armed_ = true;
}

// -- meeting

std::unique_ptr<Connection> UringLoop::adopt_socket(ConnectedSocket socket) {
  uint64_t from = options_.zero_copy_bytes;
  if (from == 0) from = socket.local ? kNever : kRemoteZeroCopyBytes;
  if (!ring_->has_zero_copy()) from = kNever;
  return adopt(std::make_unique<UringStream>(stats_, std::move(socket.fd), from),
               std::move(socket.peer));
}

Result<std::unique_ptr<Connection>> UringLoop::connect(const Address& address,
                                                       std::chrono::milliseconds timeout) {
  DJINN_TRY(auto socket, connect_socket(address, timeout));
  return adopt_socket(std::move(socket));
}

}  // namespace

Result<std::unique_ptr<Loop>> make_uring_loop(const LoopOptions& options) {
  DJINN_TRY(auto ring, Uring::make(options.single_thread));
  Fd wake_fd(::eventfd(0, EFD_CLOEXEC));
  if (!wake_fd.valid()) return Error{ErrorCode::kUnsupported, "eventfd: " + errno_text(errno)};
  return std::make_unique<UringLoop>(std::move(ring), std::move(wake_fd), options);
}

}  // namespace djinn::transport
