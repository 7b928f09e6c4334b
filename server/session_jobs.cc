// SPDX-License-Identifier: Apache-2.0
// A session's jobs: what is checked before one is let in, and where it runs.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "serialization/base/limits.h"
#include "server/session.h"
#include "server/session/deadline.h"
#include "server/session/tiny.h"

namespace djinn::server {
namespace {

using transport::FrameKind;

constexpr uint64_t kSlowHereNs = 1'000'000;  // A job that ran here and should not have.
constexpr uint64_t kJobsAwayAfterSlow = 100;
constexpr uint32_t kResyncsMax = UINT16_MAX;
// Between jobs and chunks there is time that no job is charged, and a job that is let in and then
// is late has waited for nothing.
constexpr uint64_t kPessimism = 4;
constexpr uint64_t kJobsOfATraining = 64;  // A step may be several plans, and not all go back.

Error invalid(std::string text) { return {ErrorCode::kInvalid, std::move(text)}; }
Error exhausted(std::string text) { return {ErrorCode::kExhausted, std::move(text)}; }

}  // namespace

Session::Place Session::receive_payload_frame(const transport::FrameHeader& header,
                                              transport::Bytes message) {
  if (header.kind == FrameKind::kStep) {
    DJINN_TRY(const auto step, codec::decode<codec::Step>(message));
    return job(step, header.payload_bytes);
  }
  if (header.kind == FrameKind::kJob) {
    DJINN_TRY(const auto decoded, codec::decode<codec::Job>(message));
    return job(decoded, header.payload_bytes);
  }
  DJINN_TRY(const auto upload, codec::decode<codec::Upload>(message));
  place_.queue->rates.take_bytes(header.payload_bytes, last_frame_ns_);
  return uploads_.begin(upload, header.payload_bytes);
}

template <typename Message>
Session::Place Session::job(const Message& message, uint64_t payload_bytes) {
  const auto ahead = static_cast<int16_t>(message.epoch - epoch_);
  if (ahead < 0) {  // Sent before the Resync or the Refused was read.
    note_arrival(message.job);
    return std::span<std::byte>();
  }
  if (ahead > 0) {
    return invalid("job: epoch " + std::to_string(message.epoch) + " has not begun");
  }
  if (message.job != wire(progress_.next())) {
    return invalid("job " + std::to_string(message.job) + " where " +
                   std::to_string(wire(progress_.next())) + " was to come");
  }
  if (progress_.in_flight() >= kJobsInFlightMax) {
    return exhausted("job " + std::to_string(message.job) + ": " +
                     std::to_string(progress_.in_flight()) + " jobs are in flight");
  }
  note_arrival(message.job);
  if (refuse()) return std::span<std::byte>();
  DJINN_TRY(auto decoded, plans_.decode(message));
  if (decoded && late_ &&
      decoded->knowledge->facts().operators() == 0) {  // There is nothing to leave out.
    refuse_for(late_->retry_after_ms);
    return std::span<std::byte>();
  }
  if (decoded) return prepare(std::move(*decoded), payload_bytes);
  if (++resyncs_ >= kResyncsMax) return exhausted("job: too many numbers with a wrong checksum");
  resync();
  return std::span<std::byte>();
}

void Session::resync() {
  spdlog::warn("session={} tenant={}: the numbers of job {} have a wrong checksum; epoch {} begins",
               id_.value, tenant_, progress_.next().value, epoch_ + 1);
  begin_epoch();
  sender_.send(FrameKind::kResync, codec::Resync{.job = wire(progress_.next()), .epoch = epoch_});
}

bool Session::refuse() {
  RateLimits& rates = place_.queue->rates;
  if (rates.limits_device_time()) rates.note(house_.runner.use_of(tenant_), last_frame_ns_);
  const uint64_t deadline_ns = arrivals_.front().deadline_ns;
  const uint64_t patience_ns = deadline_ns - std::min(deadline_ns, last_frame_ns_);
  const auto refusal = house_.admission.refuse(place_, last_frame_ns_, patience_ns);
  late_ = refusal && refusal->late ? refusal : std::nullopt;
  if (!refusal || late_) return false;
  refuse_for(refusal->retry_after_ms);
  return true;
}

void Session::refuse_for(uint32_t retry_after_ms) {
  spdlog::debug("session={} tenant={}: job {} is refused for {} ms", id_.value, tenant_,
                progress_.next().value, retry_after_ms);
  begin_epoch();
  sender_.send(FrameKind::kRefused,
               codec::Refused{.job = wire(progress_.next()),
                              .epoch = epoch_,
                              .retry_after_ms = retry_after_ms,
                              .code = static_cast<uint16_t>(ErrorCode::kExhausted)});
}

// Jobs come in order, and one that is sent again is what it was before.
void Session::note_arrival(uint32_t job) {
  const uint32_t ahead = job - wire(progress_.next());
  if (ahead != arrivals_.size() || ahead >= kJobsInFlightMax) return;
  const uint64_t deadline_ns =
      hints_.deadline_ns == 0 ? sched::kNever : last_frame_ns_ + hints_.deadline_ns;
  arrivals_.push_back({.ns = last_frame_ns_, .deadline_ns = deadline_ns});
}

Admission::Entrant Session::entrant(const Task& task) const {
  return {.expected_ns = task.expected_ns,
          .prompt = sched::class_of(hints_, task.phase) != sched::Class::kBestEffort,
          .refused = task.work.refused != nullptr};
}

// What is expected of it counts only where others are in the way, and not each time.
void Session::set_deadline(Task& task) {
  const Arrival arrival = arrivals_.front();
  arrivals_.erase(arrivals_.begin());
  if (arrival.deadline_ns == sched::kNever || task.knowledge->facts().operators() == 0) return;
  task.deadline_ns = arrival.deadline_ns;
  Admission::Entrant as = entrant(task);
  if (!task.knowledge->is_known()) as.expected_ns = 0;
  const uint64_t wait_ns = house_.admission.wait_ns(place_, as);
  const uint64_t left_ns = task.deadline_ns - std::min(task.deadline_ns, last_frame_ns_);
  if (!late_ && left_ns > 0) {
    task.doubted_ns = wait_ns == 0 ? 0 : as.expected_ns;
    const uint64_t pessimistic_ns = wait_ns + wait_ns / kPessimism;
    if (pessimistic_ns <= left_ns && task.doubted_ns <= left_ns - pessimistic_ns) return;
    task.doubted_ns = 0;
    if (!task.knowledge->may_refuse()) return;
  }
  task.work.refused = too_late({.wait_ns = wait_ns,
                                .expected_ns = as.expected_ns,
                                .deadline_ns = task.deadline_ns - arrival.ns,
                                .retry_after_ms = late_ ? late_->retry_after_ms : 0,
                                .rate = late_ && late_->rate});
}

void Session::begin_epoch() {
  plans_.forget();
  ++epoch_;
}

Session::Place Session::prepare(PlanSlots::Decoded decoded, uint64_t payload_bytes) {
  Task task;
  task.run_time = std::move(decoded.run_time);
  task.knowledge = std::move(decoded.knowledge);
  task.size = task.knowledge->facts().size(*decoded.plan, *decoded.numbers);
  task.expected_ns = task.knowledge->expected_ns(task.size);
  task.phase = phase_of(task);
  uint64_t expected = 0;
  if (decoded.has_inline_uploads) {
    DJINN_TRY(expected, inline_bytes(*decoded.plan, *decoded.numbers));
  }
  if (payload_bytes != expected) {
    return invalid("job: a payload of " + std::to_string(payload_bytes) +
                   " bytes for inline uploads of " + std::to_string(expected));
  }
  task.work = {.job = progress_.next(),
               .plan = std::move(decoded.plan),
               .numbers = std::move(decoded.numbers),
               .inline_uploads = {},
               .uploads = {}};
  set_deadline(task);
  DJINN_TRY(task.staged_bytes, uploads_.take(task.work));
  place_.queue->rates.take_bytes(payload_bytes, last_frame_ns_);
  if (payload_bytes == 0) {
    submit(std::move(task));
    return std::span<std::byte>();
  }
  task.inline_bytes = payload_bytes;
  task.work.inline_uploads.resize(payload_bytes / sizeof(uint64_t));
  arriving_ = std::make_unique<Task>(std::move(task));
  return std::as_writable_bytes(std::span(arriving_->work.inline_uploads));
}

JobPhase Session::phase_of(const Task& task) {
  const JobPhase phase = task.knowledge->facts().phase(task.size);
  const uint64_t job = progress_.next().value;
  if (phase == JobPhase::kTraining) trains_until_job_ = job + kJobsOfATraining;
  return job < trains_until_job_ ? JobPhase::kTraining : phase;
}

bool Session::may_run_here(const Task& task) const {
  return progress_.idle() && !running_paused_ && task.work.job.value >= not_here_before_job_ &&
         is_tiny(*task.work.plan, task.size.elements,
                 task.run_time->last_ns.load(std::memory_order_relaxed),
                 task.run_time->last_elements.load(std::memory_order_relaxed));
}

void Session::submit(Task task) {
  const bool here = may_run_here(task);
  progress_.receive();
  house_.admission.add(place_, entrant(task), last_frame_ns_);
  hints_.rest = Rest::kNone;
  packed_ = false;
  answers_due_ += task.work.plan->answers;
  inline_bytes_queued_ += task.inline_bytes;
  if (here && house_.runner.try_run(id_, task, reports_)) {
    if (task.work.refused == nullptr &&
        task.run_time->last_ns.load(std::memory_order_relaxed) > kSlowHereNs) {
      not_here_before_job_ = task.work.job.value + kJobsAwayAfterSlow;
    }
    for (Report& each : reports_) report(std::move(each));
    reports_.clear();
    return;
  }
  house_.runner.submit(id_, std::move(task));
  flow();
}

}  // namespace djinn::server
