// SPDX-License-Identifier: Apache-2.0
#include "server/session.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "serialization/base/limits.h"
#include "server/clock.h"
#include "server/session/greeting.h"

namespace djinn::server {
namespace {

using transport::FrameKind;

constexpr uint64_t kGoodbyeLingerNs = 1'000'000'000;  // For the peer to read it and close.
constexpr uint32_t kRetryFullMs = 60'000;             // A hello when there are too many sessions,
constexpr uint32_t kRetryTenantMs = 1000;             // and when there are too many of one tenant.

Error invalid(std::string text) { return {ErrorCode::kInvalid, std::move(text)}; }
Error exhausted(std::string text) { return {ErrorCode::kExhausted, std::move(text)}; }

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
                             : 0,
            .deadline_ns = uint64_t{hint.deadline_ms} * 1'000'000};
  house_.runner.hint(id_, hints_);
  return Unit{};
}

void Session::upload_refused(UploadId upload) {
  if (state_ != State::kOpen) return;
  say_goodbye(invalid("upload " + std::to_string(upload.value) +
                      ": the bytes are not what the artifact's name says"));
}

// -- from time to time

void Session::flow() {
  if (state_ != State::kOpen) return;
  const uint64_t unsent_max = running_paused_ ? kUnsentBytesMax / 2 : kUnsentBytesMax;
  const bool slow = connection_->unsent_bytes() > unsent_max;
  if (slow != running_paused_) {
    running_paused_ = slow;
    house_.runner.pause(id_, slow);
    house_.admission.pause(place_, slow);
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
  while (!place_.counted.empty()) house_.admission.end(place_);
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
