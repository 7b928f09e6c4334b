// SPDX-License-Identifier: Apache-2.0
#include "server/hangup.h"

#include <pthread.h>

#include <csignal>
#include <utility>

namespace djinn::server {
namespace {

sigset_t hangup() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGHUP);
  return set;
}

}  // namespace

void block_hangup() {
  const sigset_t set = hangup();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

OnHangup::OnHangup(std::function<void()> what)
    : what_(std::move(what)), thread_([this] { main(); }) {
  pthread_setname_np(thread_.native_handle(), "djinn-hangup");
}

OnHangup::~OnHangup() {
  stopping_ = true;
  pthread_kill(thread_.native_handle(), SIGHUP);
  thread_.join();
}

void OnHangup::main() {
  const sigset_t set = hangup();
  int signal = 0;
  while (sigwait(&set, &signal) == 0 && !stopping_) what_();
}

}  // namespace djinn::server
