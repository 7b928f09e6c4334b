// SPDX-License-Identifier: Apache-2.0
// What the server says, and what follows from it. (The other half of session.cc.)
#include <algorithm>

#include "client/session/in_flight.h"
#include "client/session/session.h"
#include "serialization/base/limits.h"

namespace djinn::client {

using transport::FrameKind;

Result<std::span<std::byte>> Session::on_message(const transport::FrameHeader& header,
                                                 Bytes message) {
  if (header.kind == FrameKind::kFetched) return on_fetched(header, message);
  if (header.payload_bytes != 0) {
    return Error{ErrorCode::kInvalid, "the server sent a payload where none belongs"};
  }
  DJINN_CHECK(on_control(header.kind, message));
  return std::span<std::byte>();
}

Result<> Session::on_control(FrameKind kind, Bytes message) {
  switch (kind) {
    case FrameKind::kHello:
      return on_hello_reply(message);
    case FrameKind::kFailed:
      return on_failed(message);
    case FrameKind::kAck: {
      DJINN_TRY(const auto ack, codec::decode<codec::Ack>(message));
      finish_before(ack.finished + 1);
      return {};
    }
    case FrameKind::kResync: {
      DJINN_TRY(const auto resync_message, codec::decode<codec::Resync>(message));
      resync(resync_message);
      return {};
    }
    case FrameKind::kRefused: {
      DJINN_TRY(const auto message_refused, codec::decode<codec::Refused>(message));
      refused(message_refused);
      return {};
    }
    case FrameKind::kOffer: {
      DJINN_TRY(auto reply, codec::decode<codec::OfferReply>(message));
      offer_reply_ = std::move(reply.have);
      return {};
    }
    case FrameKind::kOperators: {
      DJINN_TRY(auto reply, codec::decode<codec::OperatorsReply>(message));
      operators_reply_ = std::move(reply.unsupported);
      return {};
    }
    case FrameKind::kStats: {
      DJINN_TRY(stats_reply_, codec::decode<codec::StatsReply>(message));
      return {};
    }
    case FrameKind::kGoodbye: {
      DJINN_TRY(const auto goodbye, codec::decode<codec::Goodbye>(message));
      const auto code =
          goodbye.code == 0 ? ErrorCode::kUnavailable : static_cast<ErrorCode>(goodbye.code);
      fail({code, "server " + options_.address + ": " +
                      (goodbye.message.empty() ? "said goodbye" : std::string(goodbye.message)) +
                      (goodbye.retry_after_ms == 0
                           ? ""
                           : " (try again in " + std::to_string(goodbye.retry_after_ms) + " ms)")});
      return {};
    }
    case FrameKind::kHeartbeat:
      return {};
    default:
      return Error{ErrorCode::kInvalid, "the server sent a frame only clients send"};
  }
}

Result<> Session::on_hello_reply(Bytes message) {
  DJINN_TRY(const auto reply, codec::decode<codec::HelloReply>(message));
  if (greeted_ || reply.version != codec::kProtocolVersion || reply.plan_slots_max == 0 ||
      reply.jobs_in_flight_max == 0) {
    return Error{ErrorCode::kInvalid, "the server's hello is out of bounds"};
  }
  plans_.set_capacity(std::min<uint16_t>(reply.plan_slots_max, kPlanSlotsMax),
                      reply.plan_bytes_max);
  jobs_in_flight_max_ = std::min<uint16_t>(reply.jobs_in_flight_max, kJobsInFlightMax);
  staged_bytes_max_ = std::min(reply.staged_bytes_max, kStagedUploadBytesMax);
  artifact_bytes_min_ = reply.artifact_bytes_min;
  artifact_key_.assign(reply.artifact_key.begin(), reply.artifact_key.end());
  device_ = reply.device;
  id_ = reply.session;
  schemas_match_ = reply.schemas_match;
  greeted_ = true;
  return {};
}

PendingAnswer* Session::pending(uint32_t job, uint16_t answer) {
  for (const auto& each : in_flight_) {
    if (each->job == job) {
      return answer < each->answers.size() ? each->answers[answer] : nullptr;
    }
  }
  return nullptr;
}

Result<std::span<std::byte>> Session::on_fetched(const transport::FrameHeader& header,
                                                 Bytes message) {
  DJINN_TRY(const auto fetched, codec::decode<codec::Fetched>(message));
  PendingAnswer* const answer = pending(fetched.job, fetched.answer);
  if (answer == nullptr || answer->done) {
    return Error{ErrorCode::kInvalid, "the server answered what nobody asked"};
  }
  if (answer->abandoned) {
    answer->done = true;
    finish_before(fetched.job + (fetched.finished ? 1 : 0));
    return std::span<std::byte>();
  }
  if (answer->into.empty()) {
    if (header.payload_bytes > kMessageBytesMax) {
      return Error{ErrorCode::kInvalid, "the server's description of results is too long"};
    }
    answer->bytes.resize(header.payload_bytes);
    answer->into = answer->bytes;
  }
  if (answer->into.size() != header.payload_bytes) {
    return Error{ErrorCode::kInvalid, "the server sent " + std::to_string(header.payload_bytes) +
                                          " bytes for a fetch of " +
                                          std::to_string(answer->into.size())};
  }
  receiving_ = answer;
  receiving_answer_ = fetched;
  if (header.payload_bytes == 0) on_payload();
  return answer->into;
}

void Session::on_payload() {
  counters_.answers++;
  receiving_->done = true;
  receiving_ = nullptr;
  finish_before(receiving_answer_.job + (receiving_answer_.finished ? 1 : 0));
}

Result<> Session::on_failed(Bytes message) {
  DJINN_TRY(const auto failed, codec::decode<codec::Failed>(message));
  PendingAnswer* const answer = pending(failed.job, failed.answer);
  if (answer == nullptr || answer->done) {
    return Error{ErrorCode::kInvalid, "the server answered what nobody asked"};
  }
  answer->error = Error{static_cast<ErrorCode>(failed.code), std::string(failed.message)};
  answer->done = true;
  finish_before(failed.job + (failed.finished ? 1 : 0));
  return {};
}

void Session::finish_before(uint32_t job) {
  // Job numbers wrap: "before" means less than half the range behind.
  backoff_.ended_before(job);
  while (!in_flight_.empty() && static_cast<int32_t>(in_flight_.front()->job - job) < 0) {
    staged_bytes_ -= in_flight_.front()->staged_bytes;
    in_flight_.pop_front();
  }
}

void Session::resync(const codec::Resync& message) {
  counters_.resyncs++;
  epoch_ = message.epoch;
  send_again(message.job);
}

void Session::refused(const codec::Refused& message) {
  counters_.refusals++;
  epoch_ = message.epoch;
  refused_job_ = message.job;
  backoff_.refused(message.job, message.retry_after_ms, Backoff::Clock::now());
}

Result<> Session::keep_trying() {
  if (!backoff_.due()) return {};
  const auto now = Backoff::Clock::now();
  if (now < *backoff_.due()) return {};
  if (backoff_.since() && now - *backoff_.since() > options_.silence_timeout) {
    give_up({ErrorCode::kExhausted, "server " + options_.address + ": was too busy for a job for " +
                                        std::to_string(options_.silence_timeout.count()) +
                                        " ms, and refused it " +
                                        std::to_string(backoff_.refusals()) +
                                        " times; try again later, or raise DJINN_TIMEOUT_MS"});
    return *lost_;
  }
  backoff_.sent();
  send_again(refused_job_);
  if (lost_) return *lost_;
  return {};
}

void Session::send_again(uint32_t from_job) {
  plans_.clear();
  for (const auto& job : in_flight_) {
    if (static_cast<int32_t>(job->job - from_job) < 0) continue;
    if (const auto sent = transmit(*job); !sent) {
      fail(sent.error());
      return;
    }
  }
  if (held_hint_ != nullptr) send_hint(std::exchange(held_hint_, nullptr));
}

void Session::fail(Error error) {
  if (lost_) return;
  lost_ = std::move(error);
  for (const auto& job : in_flight_) {
    for (PendingAnswer* answer : job->answers) {
      if (answer->done) continue;
      answer->error = *lost_;
      answer->done = true;
    }
  }
  in_flight_.clear();
  receiving_ = nullptr;
}

void Session::on_closed(const Error& reason) {
  fail({reason.code == ErrorCode::kCancelled ? ErrorCode::kUnavailable : reason.code,
        "server " + options_.address + ": " + reason.message});
}

}  // namespace djinn::client
