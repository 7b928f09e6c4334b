// SPDX-License-Identifier: Apache-2.0
// Uring: one io_uring, entered at most once per call, with operations that come back as objects.
//
// Why not liburing's own submit-and-wait: it may enter twice, and hides from the caller whether a
// signal interrupted the wait and how much was taken. liburing still maps the rings and fills SQEs.
// Ownership: an UringOp must live until its last completion was taken from here.
// Threading: one thread at a time; with `single_thread`, for ever the first that enters.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>

#include <liburing.h>

#include "serialization/base/result.h"

namespace djinn::transport {

// Something the kernel was asked to do. Whoever made it knows by `kind` and `owner` what.
struct UringOp {
  enum class Kind : uint8_t { kReceive, kSend, kZeroCopy, kAccept, kWake, kAlarm, kIgnored };
  Kind kind = Kind::kIgnored;
  void* owner = nullptr;
  bool answered = false;  // A completion was taken from the kernel since it was prepared.
};

struct UringCompletion {
  UringOp* op = nullptr;
  int32_t result = 0;
  uint32_t flags = 0;
};

class Uring {
 public:
  // The error says which call or feature is missing.
  static Result<std::unique_ptr<Uring>> make(bool single_thread);
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  // A fresh SQE for this operation. Submits what is queued when there is no room (counted). Null
  // only after kFailed.
  io_uring_sqe* prepare(UringOp& op);
  void prepare_cancel(UringOp& op);

  enum class Wait : uint8_t { kCompleted, kTimedOut, kInterrupted, kFailed };
  // Submits what is queued and, if `wait`, waits for a completion until the timeout (negative: for
  // ever). Enters the kernel once, or not at all if there is nothing to submit, to run or to wait
  // for. When it returns, the kernel has taken and tried everything that was queued: an operation
  // with MSG_DONTWAIT and IOSQE_CQE_SKIP_SUCCESS that is not `answered` has succeeded. kFailed: the
  // ring is of no use to this thread.
  Wait enter(bool wait, std::chrono::nanoseconds timeout);

  // As enter(true, ...), and waits until then. Cheaper if deadlines are far: the kernel's timer is
  // set once and serves many waits.
  Wait enter_until(std::chrono::steady_clock::time_point deadline);

  // What came back and was not taken yet, oldest first.
  [[nodiscard]] std::deque<UringCompletion>& completions() { return completions_; }
  [[nodiscard]] bool has_zero_copy() const { return has_zero_copy_; }
  [[nodiscard]] uint64_t enters() const { return enters_; }

 private:
  Uring() = default;
  int set_up(bool single_thread);
  unsigned publish();  // Makes the queued SQEs visible; returns how many are not yet taken.
  size_t reap();       // Returns how many completions there were.
  Wait submit_all(unsigned submit, bool wait, std::chrono::nanoseconds timeout);
  int enter_once(unsigned submit, bool wait, std::chrono::nanoseconds timeout);

  bool set_alarm(std::chrono::steady_clock::time_point deadline);
  // Nothing is there to return with, and what is to end the wait has not happened already.
  [[nodiscard]] bool may_wait() const {
    return completions_.empty() && (!counts_on_alarm_ || alarm_set_);
  }

  io_uring ring_{};
  bool ring_made_ = false;
  bool disabled_ = false;  // Until the first enter, which decides whose ring it is.
  bool has_zero_copy_ = false;
  uint64_t enters_ = 0;
  UringOp alarm_;
  bool alarm_set_ = false;
  bool counts_on_alarm_ = false;  // The wait under way has no other end.
  std::chrono::steady_clock::time_point alarm_at_;
  __kernel_timespec alarm_time_{};
  std::deque<UringCompletion> completions_;
};

}  // namespace djinn::transport
