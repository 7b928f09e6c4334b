// SPDX-License-Identifier: Apache-2.0
// Turn: the right to touch a session's connection, for one thread at a time.
//
// Why not a mutex: a thread that waits for an answer sleeps in the loop with its turn, and must
// give it up when another wants to send - at once, and without starving anybody.
#pragma once

#include "client/session/session.h"

namespace djinn::client {

class Session::Turn {
 public:
  explicit Turn(Session& session) : session_(session) { take(); }
  ~Turn() { give(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  // Lets others have their turn, if any want it.
  void lend() {
    {
      std::lock_guard lock(session_.mutex_);
      if (session_.wanted_ == 0) return;
    }
    give();
    std::unique_lock lock(session_.mutex_);
    session_.changed_.wait(lock, [this] { return !session_.taken_ && session_.wanted_ == 0; });
    session_.taken_ = true;
  }

 private:
  void take() {
    std::unique_lock lock(session_.mutex_);
    if (session_.taken_) {
      ++session_.wanted_;
      if (session_.loop_ != nullptr) session_.loop_->wake();
      session_.changed_.wait(lock, [this] { return !session_.taken_; });
      --session_.wanted_;
    }
    session_.taken_ = true;
  }

  void give() {
    std::lock_guard lock(session_.mutex_);
    session_.taken_ = false;
    session_.changed_.notify_all();
  }

  Session& session_;
};

}  // namespace djinn::client
