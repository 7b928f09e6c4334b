// SPDX-License-Identifier: Apache-2.0
#include "server/admin/listener.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "serialization/transport/socket.h"
#include "server/clock.h"

namespace djinn::server::admin {
namespace {

using transport::Fd;

constexpr mode_t kSocketMode = 0600;
constexpr int kRestMs = 100;  // after accept(2) failed, for want of descriptors

// A connection: reads a request, writes the answer, and waits for the peer's end, so that what the
// peer sent in vain does not take the answer with it.
struct Peer {
  enum class State : uint8_t { kReading, kWriting, kEnding, kOver };
  Fd fd;
  uint64_t deadline_ns = 0;
  State state = State::kReading;
  std::string received = {};
  std::string answer = {};
  size_t sent = 0;

  [[nodiscard]] short events() const { return state == State::kWriting ? POLLOUT : POLLIN; }
};

// The file of a unix socket, as long as it is ours.
class SocketFile {
 public:
  SocketFile() = default;
  explicit SocketFile(std::string path) : path_(std::move(path)) {
    if (::lstat(path_.c_str(), &info_) != 0) path_.clear();
  }
  ~SocketFile() {
    struct stat now {};
    if (path_.empty() || ::lstat(path_.c_str(), &now) != 0) return;
    if (now.st_ino == info_.st_ino && now.st_dev == info_.st_dev) ::unlink(path_.c_str());
  }
  SocketFile(SocketFile&& other) noexcept
      : path_(std::exchange(other.path_, {})), info_(other.info_) {}
  SocketFile& operator=(SocketFile&&) = delete;

 private:
  std::string path_;
  struct stat info_ {};
};

class PollListener final : public Listener {
 public:
  PollListener(transport::ListeningSocket socket, Fd wake, SocketFile file,
               const ListenerOptions& options, Desk desk)
      : file_(std::move(file)),
        address_(std::move(socket.address)),
        show_(options.show),
        patience_ns_(static_cast<uint64_t>(std::chrono::nanoseconds(options.patience).count())),
        desk_(std::move(desk)),
        listening_(std::move(socket.fd)),
        wake_(std::move(wake)),
        thread_([this] { main(); }) {
    pthread_setname_np(thread_.native_handle(), "djinn-admin");
  }
  ~PollListener() override {
    stopping_ = true;
    const uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
    thread_.join();
  }
  PollListener(const PollListener&) = delete;
  PollListener& operator=(const PollListener&) = delete;

  [[nodiscard]] const transport::Address& address() const override { return address_; }

 private:
  void main() {
    std::vector<pollfd> waiting;
    while (!stopping_) {
      const bool open = peers_.size() < kPeersMax;
      waiting.assign({{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                      {.fd = open ? listening_.get() : -1, .events = POLLIN, .revents = 0}});
      for (const Peer& peer : peers_) {
        waiting.push_back({.fd = peer.fd.get(), .events = peer.events(), .revents = 0});
      }
      if (::poll(waiting.data(), waiting.size(), patience_ms()) < 0 && errno != EINTR) return;
      for (size_t i = 0; i < peers_.size(); ++i) {
        if (waiting[i + 2].revents != 0) go_on(peers_[i]);
      }
      end_late(now_ns());
      std::erase_if(peers_, [](const Peer& peer) { return peer.state == Peer::State::kOver; });
      if (waiting[1].revents != 0) accept();
    }
  }

  // Until the first deadline; -1: there is none.
  [[nodiscard]] int patience_ms() const {
    if (peers_.empty()) return -1;
    const auto first = std::ranges::min_element(peers_, {}, &Peer::deadline_ns);
    const uint64_t now = now_ns();
    return first->deadline_ns <= now
               ? 0
               : static_cast<int>((first->deadline_ns - now + 999'999) / 1'000'000);
  }

  void end_late(uint64_t now) {
    for (Peer& peer : peers_) {
      if (now < peer.deadline_ns || peer.state == Peer::State::kOver) continue;
      if (peer.state == Peer::State::kReading) {
        answer(peer, {.status = 408, .body = "the request did not arrive in time\n"}, false);
        if (peer.state == Peer::State::kEnding) peer.state = Peer::State::kOver;
      } else {
        peer.state = Peer::State::kOver;
      }
    }
  }

  void accept() {
    Fd fd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      const bool gone = errno == ECONNABORTED || errno == EINTR || errno == EAGAIN;
      if (!gone) ::poll(nullptr, 0, kRestMs);
      return;
    }
    Peer& peer =
        peers_.emplace_back(Peer{.fd = std::move(fd), .deadline_ns = now_ns() + patience_ns_});
    if (!welcome(peer))
      answer(peer, {.status = 403, .body = "this is for the server's user\n"}, false);
  }

  [[nodiscard]] bool welcome(const Peer& peer) const {
    if (address_.kind != transport::Address::Kind::kUnix) return true;
    ucred who{};
    socklen_t length = sizeof who;
    return ::getsockopt(peer.fd.get(), SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 &&
           may_look(who.uid, ::geteuid());
  }

  void go_on(Peer& peer) {
    switch (peer.state) {
      case Peer::State::kReading:
        read(peer);
        break;
      case Peer::State::kWriting:
        write(peer);
        break;
      default:
        discard(peer);
        break;
    }
  }

  void read(Peer& peer) {
    std::array<char, kRequestBytesMax + kBodyBytesMax> bytes;
    const ssize_t got = ::recv(peer.fd.get(), bytes.data(), bytes.size() - peer.received.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
      peer.state = Peer::State::kOver;
      return;
    }
    peer.received.append(bytes.data(), static_cast<size_t>(got));
    const Parsed parsed = parse_request(peer.received);
    if (parsed.refusal) answer(peer, *parsed.refusal, false);
    if (parsed.request) {
      answer(peer, admin::answer(*parsed.request, show_, desk_),
             parsed.request->method == Method::kHead);
    }
  }

  void answer(Peer& peer, const Response& response, bool head_only) {
    peer.answer = to_bytes(response, head_only);
    peer.state = Peer::State::kWriting;
    peer.deadline_ns = now_ns() + patience_ns_;
    write(peer);
  }

  static void write(Peer& peer) {
    const ssize_t sent = ::send(peer.fd.get(), peer.answer.data() + peer.sent,
                                peer.answer.size() - peer.sent, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN && errno != EINTR) peer.state = Peer::State::kOver;
      return;
    }
    peer.sent += static_cast<size_t>(sent);
    if (peer.sent < peer.answer.size()) return;
    ::shutdown(peer.fd.get(), SHUT_WR);
    peer.state = Peer::State::kEnding;
  }

  static void discard(Peer& peer) {
    std::array<char, kRequestBytesMax> bytes;
    const ssize_t got = ::recv(peer.fd.get(), bytes.data(), bytes.size(), 0);
    const bool later = got < 0 && (errno == EAGAIN || errno == EINTR);
    if (got <= 0 && !later) peer.state = Peer::State::kOver;
  }

  const SocketFile file_;
  const transport::Address address_;
  const Show show_;
  const uint64_t patience_ns_;
  const Desk desk_;
  const Fd listening_;
  const Fd wake_;
  std::atomic<bool> stopping_ = false;
  std::vector<Peer> peers_;  // The thread's.
  std::thread thread_;       // Last: it uses all of the above.
};

}  // namespace

bool may_look(uid_t peer, uid_t own) { return peer == own || peer == 0; }

Result<std::unique_ptr<Listener>> listen(const ListenerOptions& options, Desk desk) {
  auto socket = transport::listen_socket(options.address, kSocketMode);
  if (!socket) {
    if (socket.error().code != ErrorCode::kUnavailable) return socket.error();
    return Error{ErrorCode::kUnavailable,
                 options.address.text() +
                     ": something answers there already; stop it, or choose "
                     "another address"};
  }
  Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const int flags = ::fcntl(socket->fd.get(), F_GETFL);
  if (!wake.valid() || flags < 0 || ::fcntl(socket->fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return Error{ErrorCode::kFailed, options.address.text() + ": " + transport::errno_text(errno)};
  }
  SocketFile file = options.address.kind == transport::Address::Kind::kUnix
                        ? SocketFile(options.address.host)
                        : SocketFile();
  return std::make_unique<PollListener>(std::move(*socket), std::move(wake), std::move(file),
                                        options, std::move(desk));
}

}  // namespace djinn::server::admin
