// SPDX-License-Identifier: Apache-2.0
#include "serialization/transport/loopback.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "serialization/transport/socket.h"
#include "serialization/transport/stream_loop.h"

namespace djinn::transport {
namespace {

constexpr size_t kPiecesPerMove = 32;
constexpr uint64_t kBytesPerMove = 1 << 20;

struct LoopbackStream final : Stream {
  explicit LoopbackStream(LoopStats& stats) : Stream(stats) {}
  LoopbackStream* other = nullptr;  // Until either ends.
};

struct LoopbackAcceptor {
  Address address;
  Loop::OnAccept on_accept;
  std::vector<std::unique_ptr<Connection>> waiting;
};

class LoopbackLoop final : public StreamLoop {
 public:
  LoopbackLoop(Fd wake_fd, const LoopbackOptions& options)
      : wake_fd_(std::move(wake_fd)), torn_(options.torn), random_(options.seed) {}

  Result<size_t> run_once(std::chrono::nanoseconds timeout) override;
  void wake() override {
    const uint64_t one = 1;
    (void)!::write(wake_fd_.get(), &one, sizeof one);
  }
  Result<std::unique_ptr<Listener>> listen(const Address& address, OnAccept on_accept) override;
  Result<std::unique_ptr<Connection>> connect(const Address& address,
                                              std::chrono::milliseconds timeout) override;
  [[nodiscard]] const char* kind() const override { return torn_ ? "torn" : "loopback"; }

  void forget(const LoopbackAcceptor& acceptor) {
    std::erase_if(acceptors_, [&](const auto& at) { return at.get() == &acceptor; });
  }

 protected:
  void start_io(Stream& /*stream*/) override {}
  void end_io(Stream& stream) override;
  [[nodiscard]] bool in_use(const Stream& /*stream*/) const override { return false; }

 private:
  size_t accept_all();
  bool move_all(size_t& calls);
  bool move(LoopbackStream& from, size_t& calls);
  uint64_t piece_bytes();
  Result<size_t> wait(std::chrono::nanoseconds timeout);

  Fd wake_fd_;
  bool torn_;
  std::mt19937_64 random_;
  uint16_t next_port_ = 1;
  std::vector<std::unique_ptr<LoopbackAcceptor>> acceptors_;
  std::vector<LoopbackStream*> order_;  // As they came to be, unlike the addresses in streams().
};

class LoopbackListener final : public Loop::Listener {
 public:
  LoopbackListener(LoopbackLoop& loop, const LoopbackAcceptor& acceptor)
      : loop_(loop), acceptor_(acceptor), address_(acceptor.address) {}
  ~LoopbackListener() override { loop_.forget(acceptor_); }
  LoopbackListener(const LoopbackListener&) = delete;
  LoopbackListener& operator=(const LoopbackListener&) = delete;
  [[nodiscard]] const Address& address() const override { return address_; }

 private:
  LoopbackLoop& loop_;
  const LoopbackAcceptor& acceptor_;
  Address address_;
};

Result<size_t> LoopbackLoop::run_once(std::chrono::nanoseconds timeout) {
  std::erase_if(order_, [](const LoopbackStream* stream) { return !stream->owned; });
  bury();
  size_t calls = settle_ready() + accept_all();
  const bool moved = move_all(calls);
  calls += expire();
  if (calls > 0 || moved || anyone_ready()) timeout = std::chrono::nanoseconds{0};
  DJINN_TRY(const size_t ignored, wait(bounded(timeout)));
  return calls + ignored + expire();
}

// Nothing moves while we wait: only wake(), a signal or time ends it.
Result<size_t> LoopbackLoop::wait(std::chrono::nanoseconds timeout) {
  pollfd watched{.fd = wake_fd_.get(), .events = POLLIN, .revents = 0};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const timespec time{.tv_sec = seconds.count(), .tv_nsec = (timeout - seconds).count()};
  ++stats_.enters;
  if (::ppoll(&watched, 1, timeout.count() < 0 ? nullptr : &time, nullptr) < 0 && errno == EINTR) {
    return Error{ErrorCode::kCancelled, "a signal interrupted the wait"};
  }
  uint64_t ignored = 0;
  if (watched.revents != 0) (void)!::read(wake_fd_.get(), &ignored, sizeof ignored);
  return size_t{0};
}

bool LoopbackLoop::move_all(size_t& calls) {
  std::vector<LoopbackStream*> order = order_;
  if (torn_) std::shuffle(order.begin(), order.end(), random_);
  bool moved = false;
  for (LoopbackStream* stream : order) moved |= move(*stream, calls);
  return moved;
}

uint64_t LoopbackLoop::piece_bytes() {
  if (!torn_) return kBytesPerMove;
  const uint64_t kind = random_() % 4;
  if (kind < 2) return 1 + random_() % 7;
  return 1 + random_() % (kind == 2 ? 100 : 100'000);
}

// Moves some bytes to the other end, as if through a socket without a buffer.
bool LoopbackLoop::move(LoopbackStream& from, size_t& calls) {
  if (!from.wants_output()) return false;
  if (from.other == nullptr) {
    on_send_failed(from);
    return true;
  }
  LoopbackStream& to = *from.other;
  if (!to.wants_input()) return false;
  std::array<iovec, kPiecesPerMove> pieces;
  const auto gathered = from.queue.gather(pieces, std::numeric_limits<uint64_t>::max());
  const FrameReader::Target target = to.reader.target();
  const uint64_t limit = std::min<uint64_t>(piece_bytes(), target.bytes.size());
  size_t done = 0;
  for (size_t i = 0; i < gathered.pieces && done < limit; ++i) {
    const size_t here = std::min<size_t>(pieces[i].iov_len, limit - done);
    std::memcpy(target.bytes.data() + done, pieces[i].iov_base, here);
    done += here;
  }
  from.queue.advance(done);
  calls += on_received(to, done);
  if (!from.closed) calls += on_sent(from);
  return true;
}

void LoopbackLoop::end_io(Stream& base) {
  auto& stream = static_cast<LoopbackStream&>(base);
  LoopbackStream* const other = std::exchange(stream.other, nullptr);
  if (other == nullptr) return;
  other->other = nullptr;
  other->input_ended =
      Error{ErrorCode::kUnavailable, other->peer + ": the peer closed the connection"};
  mark(*other);
}

Result<std::unique_ptr<Loop::Listener>> LoopbackLoop::listen(const Address& address,
                                                             OnAccept on_accept) {
  auto acceptor = std::make_unique<LoopbackAcceptor>();
  acceptor->address = address;
  if (address.kind == Address::Kind::kTcp && address.port == 0) {
    acceptor->address.port = next_port_++;
  }
  for (const auto& other : acceptors_) {
    if (other->address.text() != acceptor->address.text()) continue;
    return Error{ErrorCode::kUnavailable, address.text() + ": somebody listens there already"};
  }
  acceptor->on_accept = std::move(on_accept);
  acceptors_.push_back(std::move(acceptor));
  return std::make_unique<LoopbackListener>(*this, *acceptors_.back());
}

Result<std::unique_ptr<Connection>> LoopbackLoop::connect(const Address& address,
                                                          std::chrono::milliseconds /*timeout*/) {
  for (const auto& acceptor : acceptors_) {
    if (acceptor->address.text() != address.text()) continue;
    auto one = std::make_unique<LoopbackStream>(stats_);
    auto other = std::make_unique<LoopbackStream>(stats_);
    one->other = other.get();
    other->other = one.get();
    order_.push_back(one.get());
    order_.push_back(other.get());
    acceptor->waiting.push_back(adopt(std::move(other), "loopback client"));
    return adopt(std::move(one), address.text());
  }
  return Error{ErrorCode::kUnavailable, address.text() + ": nobody listens in this process"};
}

size_t LoopbackLoop::accept_all() {
  size_t calls = 0;
  for (size_t i = 0; i < acceptors_.size(); ++i) {  // The callback may change the list.
    const OnAccept on_accept = acceptors_[i]->on_accept;
    for (auto& connection : std::exchange(acceptors_[i]->waiting, {})) {
      on_accept(std::move(connection));
      ++calls;
    }
  }
  return calls;
}

}  // namespace

Result<std::unique_ptr<Loop>> make_loopback(const LoopbackOptions& options) {
  Fd wake_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_fd.valid()) return Error{ErrorCode::kFailed, "eventfd: " + errno_text(errno)};
  return std::make_unique<LoopbackLoop>(std::move(wake_fd), options);
}

}  // namespace djinn::transport
