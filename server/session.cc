// SPDX-License-Identifier: Apache-2.0
#include "server/session.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "serialization/base/limits.h"
#include "server/clock.h"
#include "server/session/greeting.h"
#include "server/session/tiny.h"

namespace djinn::server {
namespace {

using transport::FrameKind;

constexpr uint64_t kGoodbyeLingerNs = 1'000'000'000;  // For the peer to read it and close.
constexpr uint64_t kSlowHereNs = 1'000'000;           // A job that ran here and should not have.
constexpr uint64_t kJobsAwayAfterSlow = 100;
constexpr uint32_t kResyncsMax = UINT16_MAX;
constexpr uint32_t kRetryFullMs = 60'000;  // A hello when there are too many sessions,
constexpr uint32_t kRetryTenantMs = 1000;  // and when there are too many of one tenant.
constexpr uint64_t kJobsOfATraining = 64;  // A step may be several plans, and not all go back.

Error invalid(std::string text) { return {ErrorCode::kInvalid, std::move(text)}; }
Error exhausted(std::string text) { return {ErrorCode::kExhausted, std::move(text)}; }

uint32_t wire(JobId job) { return static_cast<uint32_t>(job.value); }

}  // namespace

Session::Session(SessionId id, Options options, std::unique_ptr<transport::Connection> connection,
                 House& house)
    : id_(id),
      options_(options),
      house_(house),
      plans_(house.plans),
      uploads_(house.device, house.artifacts,
               [refuse = house.refuse_upload, id](UploadId upload) { refuse(id, upload); }),
      born_ns_(now_ns()),
      state_since_ns_(born_ns_),
      last_frame_ns_(state_since_ns_),
      sender_(*connection, [this] { flow(); }),
      connection_(std::move(connection)) {}

Session::~Session() {
  release_jobs();
  state_ = State::kClosed;
  connection_.reset();
}

// -- frames

Session::Place Session::on_message(const transport::FrameHeader& header, transport::Bytes message) {
  if (state_ == State::kEnding || state_ == State::kClosed) return std::span<std::byte>();
  last_frame_ns_ = now_ns();
  Place place = receive(header, message);
  if (place) return place;
  say_goodbye(place.error());
  return std::span<std::byte>();
}

Session::Place Session::receive(const transport::FrameHeader& header, transport::Bytes message) {
  if ((state_ == State::kGreeting) != (header.kind == FrameKind::kHello) &&
      header.kind != FrameKind::kGoodbye) {
    return invalid(state_ == State::kGreeting ? "the first frame is no hello" : "a second hello");
  }
  if (header.kind == FrameKind::kStep || header.kind == FrameKind::kJob ||
      header.kind == FrameKind::kUpload) {
    return receive_payload_frame(header, message);
  }
  if (header.payload_bytes != 0) {
    return invalid("a payload behind a frame of kind " +
                   std::to_string(static_cast<unsigned>(header.kind)));
  }
  DJINN_TRY([[maybe_unused]] const Unit done, receive_plain_frame(header.kind, message));
  return std::span<std::byte>();
}

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
  return uploads_.begin(upload, header.payload_bytes);
}

Result<> Session::receive_plain_frame(FrameKind kind, transport::Bytes message) {
  switch (kind) {
    case FrameKind::kHello: {
      DJINN_TRY(const auto decoded, codec::decode<codec::Hello>(message));
      return hello(decoded);
    }
    case FrameKind::kOperators: {
      DJINN_TRY(const auto decoded, codec::decode<codec::Operators>(message));
      return operators(decoded);
    }
    case FrameKind::kOffer: {
      DJINN_TRY(const auto decoded, codec::decode<codec::Offer>(message));
      return offer(decoded);
    }
    case FrameKind::kStats: {
      DJINN_TRY(const auto decoded, codec::decode<codec::StatsRequest>(message));
      return stats_request(decoded);
    }
    case FrameKind::kHint: {
      DJINN_TRY(const auto decoded, codec::decode<codec::Hint>(message));
      return hint(decoded);
    }
    case FrameKind::kHeartbeat:
      return Unit{};
    case FrameKind::kGoodbye: {
      DJINN_TRY(const auto decoded, codec::decode<codec::Goodbye>(message));
      spdlog::info("session={} tenant={} says goodbye: {} {}", id_.value, tenant_, decoded.code,
                   printable(decoded.message));
      release_jobs();
      state_ = State::kEnding;
      connection_->close(std::chrono::milliseconds(0));
      return Unit{};
    }
    default:
      return invalid("a frame of kind " + std::to_string(static_cast<unsigned>(kind)) +
                     " is not for servers");
  }
}

void Session::on_payload() {
  if (state_ != State::kOpen) return;
  if (arriving_ != nullptr) {
    submit(std::move(*std::exchange(arriving_, nullptr)));
  } else {
    uploads_.finish();
  }
}

void Session::on_closed(const Error& reason) {
  if (state_ != State::kEnding) {
    spdlog::info("session={} tenant={} closed: {}", id_.value, tenant_, reason.message);
  }
  release_jobs();
  state_ = State::kClosed;
  house_.closed();
}

// -- the greeting

Result<> Session::hello(const codec::Hello& hello) {
  if (options_.full) {
    ++house_.admission.refusals().sessions;
    retry_after_ms_ = kRetryFullMs;
    return exhausted("hello: the server has as many sessions as it may; try again in a minute");
  }
  DJINN_TRY(tenant_, check_hello(hello, house_.access, options_.local));
  if (const auto may = house_.may_open(tenant_); !may) {
    retry_after_ms_ = kRetryTenantMs;
    return may.error();
  }
  place_.queue = &house_.admission.queue(tenant_);
  house_.runner.open(id_, tenant_);
  uploads_.set_tenant(tenant_);
  state_ = State::kOpen;
  spdlog::info("session={} tenant={} from {}: {} with LibTorch {}", id_.value, tenant_,
               connection_->peer(), printable(hello.app), printable(hello.libtorch));
  sender_.send(FrameKind::kHello, hello_reply(id_, hello, house_.device, house_.artifacts.key()));
  return Unit{};
}

Result<> Session::operators(const codec::Operators& operators) {
  DJINN_TRY(const codec::OperatorsReply reply, check_operators(operators, house_.device));
  spdlog::info("session={} tenant={}: {} of its {} operators are not supported", id_.value, tenant_,
               reply.unsupported.size(), operators.names.size());
  sender_.send(FrameKind::kOperators, reply);
  return Unit{};
}

// -- work

template <typename Message>
Session::Place Session::job(const Message& message, uint64_t payload_bytes) {
  const auto ahead = static_cast<int16_t>(message.epoch - epoch_);
  if (ahead < 0) return std::span<std::byte>();  // Sent before the Resync was read.
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
  if (refuse()) return std::span<std::byte>();
  DJINN_TRY(auto decoded, plans_.decode(message));
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
  const auto retry_after_ms = house_.admission.refuse(place_);
  if (!retry_after_ms) return false;
  spdlog::debug("session={} tenant={}: job {} is refused for {} ms", id_.value, tenant_,
                progress_.next().value, *retry_after_ms);
  begin_epoch();
  sender_.send(FrameKind::kRefused,
               codec::Refused{.job = wire(progress_.next()),
                              .epoch = epoch_,
                              .retry_after_ms = *retry_after_ms,
                              .code = static_cast<uint16_t>(ErrorCode::kExhausted)});
  return true;
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
  DJINN_TRY(task.staged_bytes, uploads_.take(task.work));
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
  house_.admission.add(place_, task.expected_ns);
  hints_.rest = Rest::kNone;
  packed_ = false;
  answers_due_ += task.work.plan->answers;
  inline_bytes_queued_ += task.inline_bytes;
  if (here && house_.runner.try_run(id_, task, reports_)) {
    if (task.run_time->last_ns.load(std::memory_order_relaxed) > kSlowHereNs) {
      not_here_before_job_ = task.work.job.value + kJobsAwayAfterSlow;
    }
    for (Report& each : reports_) report(std::move(each));
    reports_.clear();
    return;
  }
  house_.runner.submit(id_, std::move(task));
  flow();
}

Result<> Session::offer(const codec::Offer& offer) {
  if (offers_.size() >= kOffersPendingMax) {
    return exhausted("offer: " + std::to_string(kOffersPendingMax) + " are unanswered");
  }
  DJINN_TRY(Offered offered, uploads_.offer(offer));
  std::vector<ArtifactStore::Wanted> wanted;
  for (const Offered::Load& load : offered.loads) wanted.push_back(load.wanted);
  offers_.push_back(std::move(offered));
  if (!wanted.empty()) {
    house_.artifacts.load({.wanted = std::move(wanted),
                           .tenant = tenant_,
                           .asker = asks_,
                           .done = [loaded = house_.loaded, id = id_](auto buffers) {
                             loaded(id, std::move(buffers));
                           }});
  }
  answer_offers();
  return Unit{};
}

void Session::loaded(std::span<std::shared_ptr<Buffer>> artifacts) {
  if (state_ != State::kOpen) return;
  uploads_.bind(offers_.front(), artifacts);
  answer_offers();
}

void Session::answer_offers() {
  while (!offers_.empty() && offers_.front().loads.empty()) {
    sender_.send(FrameKind::kOffer, codec::OfferReply{.have = std::move(offers_.front().have)});
    offers_.pop_front();
  }
}

Result<> Session::hint(const codec::Hint& hint) {
  const uint64_t second = last_frame_ns_ / 1'000'000'000;
  if (std::exchange(hints_second_, second) != second) hints_in_second_ = 0;
  if (++hints_in_second_ > kHintsPerSecondMax) {
    return exhausted("hint: more than " + std::to_string(kHintsPerSecondMax) + " in a second");
  }
  hints_ = {.phase = hint.phase,
            .urgency = hint.urgency,
            .rest = hint.rest,
            .resume_ns = hint.rest == Rest::kUntil
                             ? last_frame_ns_ + uint64_t{hint.resume_ms} * 1'000'000
                             : 0};
  house_.runner.hint(id_, hints_);
  return Unit{};
}

Result<> Session::stats_request(const codec::StatsRequest& request) {
  if (progress_.idle()) {
    send_stats(request.tag);
    return Unit{};
  }
  if (pending_stats_.size() >= kStatsRequestsMax) {
    return exhausted("stats: " + std::to_string(kStatsRequestsMax) + " requests are unanswered");
  }
  pending_stats_.push_back({.tag = request.tag, .after = progress_.received()});
  return Unit{};
}

void Session::upload_refused(UploadId upload) {
  if (state_ != State::kOpen) return;
  say_goodbye(invalid("upload " + std::to_string(upload.value) +
                      ": the bytes are not what the artifact's name says"));
}

// -- answers

void Session::report(Report report) {
  if (state_ != State::kOpen) return;
  if (report.answer != graph::kNone) {
    --answers_due_;
    send_answer(report);
  }
  if (report.finished) job_ended(report);
  flow();
}

void Session::send_answer(Report& report) {
  const auto answer = static_cast<uint16_t>(report.answer);
  if (report.bytes) {
    sender_.send(FrameKind::kFetched,
                 codec::encode(codec::Fetched{
                     .job = wire(report.job), .answer = answer, .finished = report.finished}),
                 std::move(*report.bytes));
    return;
  }
  const Error& error = report.bytes.error();
  sender_.send(
      FrameKind::kFailed,
      codec::Failed{.job = wire(report.job),
                    .answer = answer,
                    .finished = report.finished,
                    .code = static_cast<uint16_t>(error.code),
                    .message = std::string_view(error.message).substr(0, kErrorTextBytesMax)});
}

void Session::job_ended(const Report& report) {
  uploads_.release(report.staged_bytes);
  inline_bytes_queued_ -= report.inline_bytes;
  house_.admission.end(place_);
  progress_.end(report.staged_bytes, report.answer != graph::kNone);
  if (progress_.ack_due()) {
    progress_.tell();
    sender_.send(FrameKind::kAck, codec::Ack{.finished = wire(progress_.ended())});
  }
  while (!pending_stats_.empty() && pending_stats_.front().after <= progress_.ended()) {
    send_stats(pending_stats_.front().tag);
    pending_stats_.pop_front();
  }
  if (draining_ && progress_.idle()) {
    say_goodbye({ErrorCode::kUnavailable, "the server is shutting down"});
  }
}

void Session::send_stats(uint32_t tag) {
  const ReplayStats stats = house_.runner.stats(id_);
  sender_.send(FrameKind::kStats,
               codec::StatsReply{.tag = tag,
                                 .ops_executed = stats.ops_executed,
                                 .jobs_executed = progress_.ended().value,
                                 .ops_failed = stats.ops_failed,
                                 .storages = stats.storages,
                                 .storage_bytes = stats.storage_bytes,
                                 .shared_bytes = stats.shared_bytes,
                                 .plans_built = plans_.plans_received(),
                                 .upload_bytes = uploads_.bytes_received(),
                                 .relayouts = stats.relayouts,
                                 .enters = house_.loop.stats().enters,
                                 .device_bytes = house_.device.memory().used_bytes});
}

// -- from time to time

void Session::flow() {
  if (state_ != State::kOpen) return;
  const uint64_t unsent_max = running_paused_ ? kUnsentBytesMax / 2 : kUnsentBytesMax;
  const bool slow = connection_->unsent_bytes() > unsent_max;
  if (slow != running_paused_) {
    running_paused_ = slow;
    house_.runner.pause(id_, slow);
    spdlog::debug("session={}: {}", id_.value,
                  slow ? "reads slowly, its jobs wait" : "its jobs go on");
  }
  const bool pause = slow || draining_ || inline_bytes_queued_ > kInlineBytesQueuedMax;
  if (pause != reading_paused_) {
    reading_paused_ = pause;
    connection_->pause_reading(pause);
  }
}

bool Session::restless() const {
  return state_ == State::kGreeting || state_ == State::kEnding || answers_due_ > 0 ||
         !pending_stats_.empty() || !offers_.empty() || running_paused_ || !packed_;
}

void Session::tick(uint64_t now) {
  const uint64_t in_state_ns = now - state_since_ns_;
  if (state_ == State::kGreeting && in_state_ns >= kHelloTimeoutNs) {
    say_goodbye({ErrorCode::kDeadline, "no hello within ten seconds"});
  }
  if (state_ == State::kEnding && in_state_ns >= kGoodbyeLingerNs) {
    connection_->close(std::chrono::milliseconds(0));
  }
  if (state_ != State::kOpen) return;
  flow();
  const bool someone_waits = answers_due_ > 0 || !pending_stats_.empty() || !offers_.empty();
  if (someone_waits && !running_paused_ && now >= sender_.last_sent_ns() + kHeartbeatNs / 2) {
    sender_.send(FrameKind::kHeartbeat, codec::Heartbeat{});
  }
  if (!packed_ && progress_.idle() && now >= last_frame_ns_ + kIdleNs) {
    packed_ = true;
    plans_.compact();
    house_.runner.shrink(id_);
    reports_ = {};
  }
}

void Session::drain() {
  draining_ = true;
  if (state_ == State::kGreeting || (state_ == State::kOpen && progress_.idle())) {
    say_goodbye({ErrorCode::kUnavailable, "the server is shutting down"});
  }
  flow();
}

// The connection stays until the peer closes it or the linger is over: a socket that is closed
// while bytes of the peer are unread would take the Goodbye with it.
void Session::say_goodbye(const Error& error) {
  spdlog::info("session={} tenant={} ended: {}", id_.value, tenant_, error.message);
  sender_.send(
      FrameKind::kGoodbye,
      codec::Goodbye{.code = static_cast<uint16_t>(error.code),
                     .message = std::string_view(error.message).substr(0, kErrorTextBytesMax),
                     .retry_after_ms = retry_after_ms_});
  release_jobs();
  state_ = State::kEnding;
  state_since_ns_ = now_ns();
  if (reading_paused_) connection_->pause_reading(false);
}

void Session::release_jobs() {
  asks_.reset();
  if (state_ != State::kOpen) return;
  house_.runner.close(id_);
  while (!place_.counted_ns.empty()) house_.admission.end(place_);
}

SessionReport Session::look(uint64_t now) const {
  SessionReport out{.session = id_.value,
                    .tenant = tenant_,
                    .peer = connection_->peer(),
                    .state = state_ == State::kGreeting ? "greeting"
                             : state_ == State::kOpen   ? "open"
                                                        : "ending",
                    .age_ns = now - born_ns_,
                    .jobs = progress_.ended().value,
                    .in_flight = state_ == State::kOpen ? progress_.in_flight() : 0,
                    .upload_bytes = uploads_.bytes_received(),
                    .hints = hints_};
  if (state_ != State::kOpen) return out;
  const ReplayStats stats = house_.runner.stats(id_);
  out.storages = stats.storages;
  out.bytes = stats.storage_bytes;
  out.shared_bytes = stats.shared_bytes;
  return out;
}

size_t Session::bytes() const {
  return sizeof *this + plans_.bytes() + reports_.capacity() * sizeof(Report);
}

}  // namespace djinn::server
