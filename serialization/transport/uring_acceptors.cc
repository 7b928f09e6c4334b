// SPDX-License-Identifier: Apache-2.0
#include "serialization/transport/uring_acceptors.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace djinn::transport {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::nanoseconds kRest = 100ms;  // When descriptors ran out.

bool is_exhausted(int32_t result) {
  return result == -EMFILE || result == -ENFILE || result == -ENOBUFS || result == -ENOMEM;
}

}  // namespace

struct UringAcceptors::Acceptor {
  ListeningSocket socket;
  Loop::OnAccept on_accept;
  UringOp op;
  bool armed = false;
  bool dead = false;
  bool resting = false;  // Descriptors ran out; asking again at once would be a busy loop.
  Clock::time_point rest_until;
};

class UringAcceptors::Guard final : public Loop::Listener {
 public:
  Guard(UringAcceptors& acceptors, std::shared_ptr<Acceptor> acceptor)
      : acceptors_(acceptors), acceptor_(std::move(acceptor)) {}
  ~Guard() override { acceptors_.stop(*acceptor_); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  [[nodiscard]] const Address& address() const override { return acceptor_->socket.address; }

 private:
  UringAcceptors& acceptors_;
  std::shared_ptr<Acceptor> acceptor_;
};

Result<std::unique_ptr<Loop::Listener>> UringAcceptors::listen(const Address& address,
                                                               Loop::OnAccept on_accept) {
  DJINN_TRY(auto socket, listen_socket(address));
  auto acceptor = std::make_shared<Acceptor>();
  acceptor->socket = std::move(socket);
  acceptor->on_accept = std::move(on_accept);
  acceptor->op.kind = UringOp::Kind::kAccept;
  acceptor->op.owner = acceptor.get();
  acceptors_.push_back(acceptor);
  return std::make_unique<Guard>(*this, std::move(acceptor));
}

void UringAcceptors::start() {
  std::erase_if(acceptors_,
                [](const auto& acceptor) { return acceptor->dead && !acceptor->armed; });
  for (const auto& acceptor : acceptors_) {
    if (acceptor->armed || acceptor->dead) continue;
    if (acceptor->resting && Clock::now() < acceptor->rest_until) continue;
    acceptor->resting = false;
    io_uring_sqe* const sqe = ring_.prepare(acceptor->op);
    if (sqe == nullptr) return;
    io_uring_prep_accept(sqe, acceptor->socket.fd.get(), nullptr, nullptr, SOCK_CLOEXEC);
    acceptor->armed = true;
  }
}

size_t UringAcceptors::complete(const UringCompletion& completion) {
  auto& acceptor = *static_cast<Acceptor*>(completion.op->owner);
  acceptor.armed = false;
  Fd fd(completion.result);
  if (acceptor.dead) return 0;
  if (fd.valid()) {
    acceptor.on_accept(adopt_(accepted_socket(std::move(fd))));
    return 1;
  }
  if (is_exhausted(completion.result)) {
    spdlog::warn("{}: cannot accept: {}", acceptor.socket.address.text(),
                 errno_text(-completion.result));
    acceptor.resting = true;
    acceptor.rest_until = Clock::now() + kRest;
  }
  return 0;
}

std::chrono::nanoseconds UringAcceptors::bounded(std::chrono::nanoseconds timeout) const {
  const bool resting = std::any_of(acceptors_.begin(), acceptors_.end(),
                                   [](const auto& acceptor) { return acceptor->resting; });
  if (!resting) return timeout;
  return timeout.count() < 0 ? kRest : std::min(timeout, kRest);
}

bool UringAcceptors::in_use() const {
  return std::any_of(acceptors_.begin(), acceptors_.end(),
                     [](const auto& acceptor) { return acceptor->armed; });
}

void UringAcceptors::stop(Acceptor& acceptor) {
  acceptor.dead = true;
  const Address& address = acceptor.socket.address;
  if (address.kind == Address::Kind::kUnix) ::unlink(address.host.c_str());
  ::shutdown(acceptor.socket.fd.get(), SHUT_RDWR);
  acceptor.socket.fd.reset();
  if (acceptor.armed) ring_.prepare_cancel(acceptor.op);
  while (acceptor.armed) {  // Until then the kernel keeps the port.
    if (ring_.enter(true, -1ns) == Uring::Wait::kFailed) acceptor.armed = false;
    std::erase_if(ring_.completions(), [&](const UringCompletion& completion) {
      if (completion.op != &acceptor.op) return false;
      acceptor.armed = false;
      const Fd unwanted(completion.result);
      return true;
    });
  }
}

}  // namespace djinn::transport
