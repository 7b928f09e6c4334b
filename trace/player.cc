// SPDX-License-Identifier: Apache-2.0
#include "trace/player.h"

#include <algorithm>
#include <utility>

#include "client/session/hash_cache.h"
#include "client/session/job_code.h"
#include "serialization/codec/messages.h"

namespace djinn::trace {

using transport::FrameKind;

namespace {

constexpr std::chrono::milliseconds kConnectTimeout{10'000};
constexpr std::chrono::milliseconds kLinger{1'000};
constexpr std::chrono::nanoseconds kSilenceMax{kPeerTimeoutNs};

// The connection borrows a message until it has been sent.
template <typename T>
void send(transport::Connection& connection, FrameKind kind, const T& what, Bytes payload = {}) {
  auto message = std::make_shared<const codec::Message>(codec::encode(what));
  const Bytes bytes = message->bytes();
  connection.send(kind, bytes, payload, [message = std::move(message)] {});
}

}  // namespace

Player::Player(const Trace& trace, PlayOptions options, Tally& tally, Clock::time_point due)
    : trace_(trace),
      options_(std::move(options)),
      tally_(tally),
      due_(due),
      heard_(Clock::now()),
      backoff_(options_.seed) {}

Player::~Player() {
  if (!ended()) ++tally_.unfinished;
  state_ = State::kEnded;
  connection_.reset();
}

void Player::begin(transport::Loop& loop, const transport::Address& address) {
  auto connection = loop.connect(address, kConnectTimeout);
  if (!connection) return fail(connection.error());
  connection_ = std::move(*connection);
  loop.start(*connection_, *this);
  codec::Hello hello = trace_.hello();
  hello.token = options_.token;
  hello.app = options_.app;
  send(*connection_, FrameKind::kHello, hello);
}

void Player::allow(uint32_t answers) {
  allowed_ = answers > UINT32_MAX - answers_ ? UINT32_MAX : answers_ + answers;
  advance();
}

void Player::check_silence(Clock::time_point now) {
  const bool waits = state_ == State::kGreeting || (state_ == State::kPlaying && !resting());
  if (backoff_.due()) heard_ = now;  // Nothing is due from the server.
  if (waits && now - heard_ > kSilenceMax) {
    fail({ErrorCode::kUnavailable, "the server was silent while an answer was due"});
  } else if (waits && backoff_.since() && now - *backoff_.since() > kSilenceMax) {
    fail({ErrorCode::kExhausted, "the server was too busy for a job for too long, and refused it " +
                                     std::to_string(backoff_.refusals()) + " times"});
  }
}

// -- saying

void Player::advance() {
  if (state_ != State::kPlaying || backoff_.due()) return;
  const auto said = trace_.said();
  while (next_ < said.size() && state_ == State::kPlaying) {
    if (!may_say(said[next_])) return;
    if (!said[next_].artifact) {
      say(said[next_]);
    } else if (!say_artifact(said[next_])) {
      return;
    }
    ++next_;
  }
  if (state_ == State::kPlaying && !asked_for_end_ && answers_ == trace_.answers().size())
    ask_for_end();
}

bool Player::may_say(const Said& said) const {
  if (said.after > answers_ || answers_ >= allowed_) return false;
  if (said.job != 0) return said.job - finished_job_ <= in_flight_max_;
  if (said.kind != FrameKind::kUpload) return true;
  // What waits for a job that is not sent yet, nothing can wait for.
  return staged_bytes_ == unconsumed_bytes_ || staged_bytes_ + said.payload.size() <= staged_max_;
}

void Player::say(const Said& said) {
  if (said.job != 0) return say_job(said);
  // The trace outlives the connection, so what is sent may be borrowed.
  connection_->send(said.kind, said.message, said.payload, [] {});
  tally_.sent_bytes += said.message.size() + said.payload.size();
  if (said.kind == FrameKind::kUpload) {
    staged_bytes_ += said.payload.size();
    unconsumed_bytes_ += said.payload.size();
  }
}

void Player::say_job(const Said& said) {
  ++tally_.jobs;
  sent_job_ = said.job;
  sent_at_[said.job % kJobsInFlightMax] = Clock::now();
  staged_by_[said.job % kJobsInFlightMax] = std::exchange(unconsumed_bytes_, 0);
  if (anew_) return say_anew(said.job);
  connection_->send(said.kind, said.message, said.payload, [] {});
  tally_.sent_bytes += said.message.size() + said.payload.size();
}

void Player::say_anew(uint32_t job) {
  const auto spoken = trace_.spoken();
  if (!spoken) return fail(spoken.error());
  const SpokenJob& each = (*spoken)[job - 1];
  const Bytes payload = trace_.said()[each.said].payload;
  auto frame = client::encode_job(plans_, {.job = job,
                                           .epoch = epoch_,
                                           .has_payload = !payload.empty(),
                                           .hash = each.hash,
                                           .structure = each.structure,
                                           .numbers = each.numbers});
  if (!frame) return fail(frame.error());
  const auto message = std::make_shared<const codec::Message>(std::move(frame->message));
  connection_->send(frame->kind, message->bytes(), payload, [message] {});
  tally_.sent_bytes += message->bytes().size() + payload.size();
}

void Player::go_on(Clock::time_point now) {
  if (state_ != State::kPlaying || !backoff_.due() || *backoff_.due() > now) return;
  backoff_.sent();
  plans_.clear();
  for (uint32_t job = refused_job_; job <= sent_job_ && state_ == State::kPlaying; ++job) {
    ++tally_.repeats;
    say_anew(job);
  }
  if (state_ == State::kPlaying && asked_for_end_) ask_for_counters();
  advance();
}

bool Player::say_artifact(const Said& said) {
  if (next_ >= offer_end_) {
    offer(next_);
    return false;
  }
  if (have_.empty()) return false;
  if (have_[next_ - offer_begin_]) return true;
  const auto name = client::artifact_name(artifact_key_, said.upload.content);
  const codec::Upload upload{.upload = said.upload.upload, .artifact = name};
  send(*connection_, FrameKind::kUpload, upload, said.payload);
  tally_.sent_bytes += said.payload.size();
  staged_bytes_ += said.payload.size();
  unconsumed_bytes_ += said.payload.size();
  return true;
}

// Asks for this artifact and those that follow at once.
void Player::offer(size_t begin) {
  const auto said = trace_.said().subspan(begin);
  codec::Offer offer;
  std::vector<uint8_t> names;
  for (const Said& each : said.first(std::min<size_t>(said.size(), kArtifactOffersMax))) {
    if (!each.artifact || each.after > answers_) break;
    const auto name = client::artifact_name(artifact_key_, each.upload.content);
    names.insert(names.end(), name.begin(), name.end());
    offer.uploads.push_back(each.upload.upload);
    offer.lengths.push_back(each.payload.size());
  }
  offer.names = names;
  offer_begin_ = begin;
  offer_end_ = begin + offer.uploads.size();
  have_.clear();
  send(*connection_, FrameKind::kOffer, offer);
}

void Player::ask_for_end() {
  asked_for_end_ = true;
  const auto now = Clock::now();
  tally_.play.add(static_cast<uint64_t>((now - due_).count()));
  ask_for_counters();
}

void Player::ask_for_counters() {
  send(*connection_, FrameKind::kStats, codec::StatsRequest{.tag = question_});
}

// -- hearing

Result<std::span<std::byte>> Player::on_message(const transport::FrameHeader& header,
                                                Bytes message) {
  heard_ = Clock::now();
  if (state_ == State::kLeaving || state_ == State::kEnded) return std::span<std::byte>();
  if (header.kind != FrameKind::kFetched) {
    if (const auto done = on_control(header.kind, message); !done) fail(done.error());
    if (state_ == State::kPlaying) advance();
    return std::span<std::byte>();
  }
  const auto fetched = codec::decode<codec::Fetched>(message);
  if (!fetched || fetched->job == 0 || fetched->job > sent_job_) {
    fail({ErrorCode::kInvalid, "the server answered what nobody asked"});
    return std::span<std::byte>();
  }
  arriving_job_ = fetched->job;
  arriving_answer_ = fetched->answer;
  arriving_finishes_ = fetched->finished;
  payload_.resize(header.payload_bytes);
  if (payload_.empty()) on_payload();
  return std::span(payload_);
}

void Player::on_payload() {
  heard_ = Clock::now();
  if (state_ != State::kPlaying) return;
  compare(0, payload_);
  answered(arriving_job_, arriving_finishes_);
}

Result<> Player::on_control(FrameKind kind, Bytes message) {
  switch (kind) {
    case FrameKind::kHello:
      return on_hello_reply(message);
    case FrameKind::kFailed:
      return on_failed(message);
    case FrameKind::kAck: {
      DJINN_TRY(const auto ack, codec::decode<codec::Ack>(message));
      finish_through(ack.finished);
      return Unit{};
    }
    case FrameKind::kOffer: {
      DJINN_TRY(auto reply, codec::decode<codec::OfferReply>(message));
      if (reply.have.size() != offer_end_ - offer_begin_) {
        return Error{ErrorCode::kInvalid, "the server answered an offer of another length"};
      }
      have_ = std::move(reply.have);
      return Unit{};
    }
    case FrameKind::kStats:
      return on_stats(message);
    case FrameKind::kGoodbye: {
      DJINN_TRY(const auto goodbye, codec::decode<codec::Goodbye>(message));
      return Error{
          goodbye.code == 0 ? ErrorCode::kUnavailable : static_cast<ErrorCode>(goodbye.code),
          "the server said goodbye: " + std::string(goodbye.message)};
    }
    case FrameKind::kRefused:
      return on_refused(message);
    case FrameKind::kResync:
      return Error{ErrorCode::kInvalid, "the server does not understand the trace's numbers"};
    default:  // Heartbeats, and what no trace asks for.
      return Unit{};
  }
}

Result<> Player::on_hello_reply(Bytes message) {
  DJINN_TRY(const auto reply, codec::decode<codec::HelloReply>(message));
  if (state_ != State::kGreeting) return Error{ErrorCode::kInvalid, "a second hello"};
  if (!reply.schemas_match || reply.plan_slots_max < kPlanSlotsMax) {
    return Error{ErrorCode::kUnsupported,
                 "the server's operators or limits are not those that the trace was made with"};
  }
  in_flight_max_ =
      std::clamp<uint32_t>(reply.jobs_in_flight_max, 1, static_cast<uint32_t>(kJobsInFlightMax));
  staged_max_ = std::min(reply.staged_bytes_max, kStagedUploadBytesMax);
  plans_.set_capacity(kPlanSlotsMax, reply.plan_bytes_max);
  artifact_key_.assign(reply.artifact_key.begin(), reply.artifact_key.end());
  state_ = State::kPlaying;
  if (options_.deadline_ms > 0) {
    send(*connection_, FrameKind::kHint, codec::Hint{.deadline_ms = options_.deadline_ms});
  }
  options_.changed();
  return Unit{};
}

Result<> Player::on_failed(Bytes message) {
  DJINN_TRY(const auto failed, codec::decode<codec::Failed>(message));
  if (failed.job == 0 || failed.job > sent_job_) {
    return Error{ErrorCode::kInvalid, "the server answered what nobody asked"};
  }
  const Answered* const expected = trace_.find(failed.job, failed.answer);
  if (expected != nullptr && expected->what.code == 0) {
    if (static_cast<ErrorCode>(failed.code) == ErrorCode::kDeadline) {
      tally_.late.add(
          static_cast<uint64_t>((Clock::now() - sent_at_[failed.job % kJobsInFlightMax]).count()));
    }
    return Error{static_cast<ErrorCode>(failed.code),
                 "job " + std::to_string(failed.job) + ": " + std::string(failed.message)};
  }
  arriving_job_ = failed.job;
  arriving_answer_ = failed.answer;
  compare(failed.code, {});
  answered(failed.job, failed.finished);
  return Unit{};
}

Result<> Player::on_stats(Bytes message) {
  DJINN_TRY(const auto stats, codec::decode<codec::StatsReply>(message));
  if (!asked_for_end_ || stats.tag != question_) return Unit{};
  ++tally_.plays;
  tally_.operators += stats.ops_executed;
  send(*connection_, FrameKind::kGoodbye, codec::Goodbye{});
  connection_->close(kLinger);
  state_ = State::kLeaving;
  return Unit{};
}

// The server let in what it had asked for by then: a question for its counters came too early, and
// is asked again behind what was refused.
Result<> Player::on_refused(Bytes message) {
  DJINN_TRY(const auto refused, codec::decode<codec::Refused>(message));
  if (refused.job <= finished_job_ || refused.job > sent_job_) {
    return Error{ErrorCode::kInvalid, "the server refused what nobody sent"};
  }
  ++tally_.refusals;
  anew_ = true;
  epoch_ = refused.epoch;
  refused_job_ = refused.job;
  backoff_.refused(refused.job, refused.retry_after_ms, Clock::now());
  if (asked_for_end_) ++question_;
  options_.changed();
  return Unit{};
}

// The answer that has just arrived. Of an error only the code is compared: texts name ids.
void Player::compare(uint16_t code, Bytes got) {
  if (!options_.compare) return;
  const Answered* const expected = trace_.find(arriving_job_, arriving_answer_);
  if (expected == nullptr) return;  // The program left before it came.
  if (expected->what.code == code && (code != 0 || std::ranges::equal(expected->payload, got))) {
    return;
  }
  if (tally_.different++ == 0) {
    tally_.first_difference = "answer " + std::to_string(arriving_answer_) + " of job " +
                              std::to_string(arriving_job_) + ", " + std::to_string(got.size()) +
                              " bytes of code " + std::to_string(code) + " where " +
                              std::to_string(expected->payload.size()) + " of code " +
                              std::to_string(expected->what.code) + " were recorded";
  }
}

void Player::answered(uint32_t job, bool finished) {
  const auto now = Clock::now();
  tally_.answer.add(static_cast<uint64_t>((now - sent_at_[job % kJobsInFlightMax]).count()));
  if (answers_ == 0) {
    first_answer_at_ = now;
    tally_.first_answer.add(static_cast<uint64_t>((now - due_).count()));
  }
  ++answers_;
  if (answers_ == trace_.answers().size() && answers_ > 1) {
    tally_.per_answer.add(static_cast<uint64_t>((now - first_answer_at_).count()) / (answers_ - 1));
  }
  ++tally_.answers;
  finish_through(finished ? job : job - 1);
  advance();
  if (resting()) options_.changed();
}

void Player::finish_through(uint32_t job) {
  job = std::min(job, sent_job_);
  while (finished_job_ < job) {
    ++finished_job_;
    staged_bytes_ -= std::exchange(staged_by_[finished_job_ % kJobsInFlightMax], 0);
  }
  backoff_.ended_before(finished_job_ + 1);
}

// -- the end

void Player::fail(const Error& error) {
  if (state_ == State::kEnded) return;
  state_ = State::kEnded;
  if (tally_.errors.empty()) tally_.first_error = error.message;
  ++tally_.errors[error.code];
  if (connection_ != nullptr) connection_->close(std::chrono::milliseconds(0));
  options_.changed();
}

void Player::on_closed(const Error& reason) {
  if (state_ == State::kEnded) return;
  if (state_ != State::kLeaving) return fail(reason);
  state_ = State::kEnded;
  options_.changed();
}

}  // namespace djinn::trace
