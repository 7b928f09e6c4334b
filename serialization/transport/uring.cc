// SPDX-License-Identifier: Apache-2.0
#include "serialization/transport/uring.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "serialization/transport/socket.h"

namespace djinn::transport {
namespace {

constexpr unsigned kSubmissionEntries = 256;
constexpr unsigned kCompletionEntries = 4096;  // More are kept by the kernel until there is room.
constexpr std::chrono::milliseconds kAlarmMin{1};  // Shorter waits bring their own timeout.
constexpr int kFailuresMax = 1000;  // The kernel has no memory for our requests: tell the owner.
constexpr unsigned kNeededFeatures =
    IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;

Error unsupported(const std::string& cause) {
  return Error{ErrorCode::kUnsupported, "io_uring: " + cause};
}

bool probe(io_uring& ring, int opcode) {
  io_uring_probe* const found = io_uring_get_probe_ring(&ring);
  if (found == nullptr) return false;
  const bool supported = io_uring_opcode_supported(found, opcode) != 0;
  io_uring_free_probe(found);
  return supported;
}

// liburing 2.3 declares io_uring_enable_rings and does not export it.
int enable(const io_uring& ring) {
  return io_uring_register(static_cast<unsigned>(ring.ring_fd), IORING_REGISTER_ENABLE_RINGS,
                           nullptr, 0);
}

}  // namespace

int Uring::set_up(bool single_thread) {
  // Without DEFER_TASKRUN the kernel's part of a completion runs on the thread that submitted the
  // operation. COOP_TASKRUN would let it wait there until that thread enters the kernel for some
  // other reason, while the thread that waits here waits for ever; so it is not asked for.
  constexpr unsigned kShared = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
  constexpr unsigned kSingle = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                               IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED;
  io_uring_params params{};
  params.cq_entries = kCompletionEntries;
  params.flags = kShared | (single_thread ? kSingle : 0);
  int failed = io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
  if (failed == -EINVAL && single_thread) {
    params = {};
    params.cq_entries = kCompletionEntries;
    params.flags = kShared;
    failed = io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
  }
  return failed;
}

Result<std::unique_ptr<Uring>> Uring::make(bool single_thread) {
  std::unique_ptr<Uring> uring(new Uring);
  uring->alarm_.kind = UringOp::Kind::kAlarm;
  if (const int failed = uring->set_up(single_thread); failed != 0) {
    return unsupported("io_uring_setup: " + errno_text(-failed));
  }
  uring->ring_made_ = true;
  uring->disabled_ = (uring->ring_.flags & IORING_SETUP_R_DISABLED) != 0;
  if ((uring->ring_.features & kNeededFeatures) != kNeededFeatures) {
    return unsupported("this kernel is older than 5.17");
  }
  uring->has_zero_copy_ = probe(uring->ring_, IORING_OP_SENDMSG_ZC);
  return uring;
}

Uring::~Uring() {
  if (ring_made_) io_uring_queue_exit(&ring_);
}

io_uring_sqe* Uring::prepare(UringOp& op) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    if (enter(false, {}) == Wait::kFailed) return nullptr;
    sqe = io_uring_get_sqe(&ring_);
  }
  op.answered = false;
  io_uring_sqe_set_data(sqe, &op);
  return sqe;
}

void Uring::prepare_cancel(UringOp& op) {
  static UringOp ignored;  // Its kind says it all; nobody reads or writes the rest.
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    if (enter(false, {}) == Wait::kFailed) return;
    sqe = io_uring_get_sqe(&ring_);
  }
  io_uring_prep_cancel(sqe, &op, 0);
  io_uring_sqe_set_data(sqe, &ignored);
}

unsigned Uring::publish() {
  io_uring_sq& sq = ring_.sq;
  unsigned tail = *sq.ktail;
  while (sq.sqe_head != sq.sqe_tail) {
    sq.array[tail++ & sq.ring_mask] = sq.sqe_head++ & sq.ring_mask;
  }
  io_uring_smp_store_release(sq.ktail, tail);
  return tail - io_uring_smp_load_acquire(sq.khead);
}

size_t Uring::reap() {
  const io_uring_cq& cq = ring_.cq;
  const unsigned head = *cq.khead;
  const unsigned count = io_uring_smp_load_acquire(cq.ktail) - head;
  for (unsigned i = 0; i < count; ++i) {
    const io_uring_cqe& cqe = cq.cqes[(head + i) & cq.ring_mask];
    auto* const op = static_cast<UringOp*>(io_uring_cqe_get_data(&cqe));
    if (op->kind == UringOp::Kind::kIgnored) continue;
    op->answered = true;
    if (op == &alarm_) {
      alarm_set_ = false;
      continue;
    }
    completions_.push_back({.op = op, .result = cqe.res, .flags = cqe.flags});
  }
  io_uring_cq_advance(&ring_, count);
  return count;
}

int Uring::enter_once(unsigned submit, bool wait, std::chrono::nanoseconds timeout) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  __kernel_timespec time{.tv_sec = seconds.count(), .tv_nsec = (timeout - seconds).count()};
  io_uring_getevents_arg arg{};
  if (wait && timeout.count() >= 0) arg.ts = reinterpret_cast<uintptr_t>(&time);
  ++enters_;
  return io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), submit, wait ? 1 : 0,
                         IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                         reinterpret_cast<sigset_t*>(&arg), sizeof arg);
}

Uring::Wait Uring::enter(bool wait, std::chrono::nanoseconds timeout) {
  if (std::exchange(disabled_, false) && enable(ring_) != 0) return Wait::kFailed;
  constexpr unsigned kHasWork = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;
  const unsigned submit = publish();
  reap();  // Also an alarm that rang meanwhile: nobody waits for it then.
  wait = wait && may_wait();
  const bool has_work = (io_uring_smp_load_acquire(ring_.sq.kflags) & kHasWork) != 0;
  if (submit == 0 && !wait && !has_work) return Wait::kCompleted;
  const Wait result = submit_all(submit, wait, timeout);
  while (io_uring_cq_has_overflow(&ring_) && result != Wait::kFailed) {
    if (enter_once(0, false, {}) < 0) break;
    reap();
  }
  return result;
}

Uring::Wait Uring::enter_until(std::chrono::steady_clock::time_point deadline) {
  while (true) {
    const bool by_alarm = set_alarm(deadline);
    auto left = std::chrono::nanoseconds{-1};
    if (!by_alarm) {
      left = std::max<std::chrono::nanoseconds>(deadline - std::chrono::steady_clock::now(),
                                                std::chrono::nanoseconds{0});
    }
    counts_on_alarm_ = by_alarm;
    const Wait outcome = enter(true, left);
    counts_on_alarm_ = false;
    if (!by_alarm || !completions_.empty()) return outcome;
    const auto now = std::chrono::steady_clock::now();
    // A timer that fires ends the wait a moment before its completion is there. That looks like a
    // signal, and in case it was one the caller gets to look.
    if (outcome == Wait::kInterrupted && now >= alarm_at_) {
      return now >= deadline ? Wait::kTimedOut : Wait::kCompleted;
    }
    if (outcome != Wait::kCompleted || alarm_set_) return outcome;
    if (now >= deadline) return Wait::kTimedOut;
  }
}

// Whether an alarm rings at or before the deadline, so that the wait needs no timeout of its own.
bool Uring::set_alarm(std::chrono::steady_clock::time_point deadline) {
  if (alarm_set_) return alarm_at_ <= deadline;
  if (deadline - std::chrono::steady_clock::now() < kAlarmMin) return false;
  io_uring_sqe* const sqe = prepare(alarm_);
  if (sqe == nullptr) return false;
  const auto since_boot = deadline.time_since_epoch();  // steady_clock is CLOCK_MONOTONIC.
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_boot);
  alarm_time_ = {.tv_sec = seconds.count(), .tv_nsec = (since_boot - seconds).count()};
  io_uring_prep_timeout(sqe, &alarm_time_, 0, IORING_TIMEOUT_ABS);
  alarm_at_ = deadline;
  alarm_set_ = true;
  return true;
}

Uring::Wait Uring::submit_all(unsigned submit, bool wait, std::chrono::nanoseconds timeout) {
  const bool timed = wait && timeout.count() > 0;
  const auto start =
      timed ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point{};
  for (int failures = 0; failures < kFailuresMax;) {
    const int result = enter_once(submit, wait, timeout);
    const size_t completed = reap();
    submit = publish();
    if (result == -EINTR && submit == 0) return Wait::kInterrupted;
    if (result == -ETIME) return Wait::kTimedOut;
    if (result < 0 && result != -EAGAIN && result != -EBUSY && result != -EINTR) {
      return Wait::kFailed;
    }
    if (submit == 0 && result >= 0) {
      if (completed > 0 || !wait) return Wait::kCompleted;
      // Having submitted, the kernel reports neither the timeout nor the signal.
      const bool over =
          timeout.count() == 0 || (timed && std::chrono::steady_clock::now() - start >= timeout);
      return over ? Wait::kTimedOut : Wait::kInterrupted;
    }
    failures += result <= 0 ? 1 : 0;
    wait = wait && may_wait();
  }
  return Wait::kFailed;
}

}  // namespace djinn::transport
