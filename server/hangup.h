// SPDX-License-Identifier: Apache-2.0
// Hangup: what a process does when it is told SIGHUP, on a thread of its own.
//
// Why a thread that waits and no handler: what follows reads files and allocates.
// Ownership: the thread ends with the object. Threading: made and destroyed by one thread.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

namespace djinn::server {

// This thread and those that it starts from here on leave SIGHUP to an OnHangup. To be called
// before any other thread is there.
void block_hangup();

class OnHangup {
 public:
  // Calls it on the thread for each SIGHUP (for several that came at once, once). After
  // block_hangup.
  explicit OnHangup(std::function<void()> what);
  ~OnHangup();
  OnHangup(const OnHangup&) = delete;
  OnHangup& operator=(const OnHangup&) = delete;

 private:
  void main();

  const std::function<void()> what_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace djinn::server
