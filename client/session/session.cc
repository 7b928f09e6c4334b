// SPDX-License-Identifier: Apache-2.0
#include "client/session/session.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "client/session/file_mapping.h"
#include "client/session/in_flight.h"
#include "client/session/job_code.h"
#include "client/session/turn.h"
#include "serialization/base/limits.h"

namespace djinn::client {

using transport::FrameKind;

namespace {

Error unavailable(const std::string& address, const std::string& why) {
  return {ErrorCode::kUnavailable, "server " + address + ": " + why};
}

}  // namespace

Session::Session(SessionOptions options) : options_(std::move(options)) {}

Session::~Session() {
  Turn turn(*this);
  if (connection_ != nullptr && !lost_) {
    const codec::Message goodbye = codec::encode(codec::Goodbye{});
    connection_->send(FrameKind::kGoodbye, goodbye.bytes(), {}, nullptr);
    (void)loop_->run_once(std::chrono::nanoseconds(0));
  }
  connection_.reset();
}

Result<std::unique_ptr<Session>> Session::open(SessionOptions options) {
  std::unique_ptr<Session> session(new Session(std::move(options)));
  DJINN_TRY(const auto address, transport::parse_address(session->options_.address));
  DJINN_TRY(session->loop_, transport::make_loop({}));
  DJINN_TRY(session->connection_,
            session->loop_->connect(address, session->options_.connect_timeout));
  session->loop_->start(*session->connection_, *session);
  DJINN_CHECK(session->say_hello());
  return session;
}

Result<> Session::say_hello() {
  Turn turn(*this);
  const codec::Message hello = codec::encode(codec::Hello{.token = options_.token,
                                                          .app = options_.app,
                                                          .libtorch = options_.libtorch_version,
                                                          .schema_hash = options_.schema_hash});
  connection_->send(FrameKind::kHello, hello.bytes(), {}, [] {});
  const auto deadline = std::chrono::steady_clock::now() + options_.connect_timeout;
  while (!greeted_ && !lost_) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero()) {
      fail(unavailable(options_.address, "did not answer the hello within " +
                                             std::to_string(options_.connect_timeout.count()) +
                                             " ms"));
      break;
    }
    DJINN_CHECK(run_once(left));
  }
  if (lost_) return *lost_;
  if (!schemas_match_ && options_.operators) return exchange_operators();
  return {};
}

// Asks which of our operators the server lacks. The caller has the turn.
Result<> Session::exchange_operators() {
  const std::vector<OperatorSchema> ours = options_.operators();
  codec::Operators operators;
  for (const OperatorSchema& op : ours) {
    operators.names.push_back(op.name);
    operators.hashes.push_back(op.hash);
  }
  const codec::Message message = codec::encode(operators);
  bool sent = false;
  connection_->send(FrameKind::kOperators, message.bytes(), {}, [&sent] { sent = true; });
  DJINN_CHECK(run_alone([&] { return sent && operators_reply_.has_value(); }));
  for (const uint32_t index : *operators_reply_) {
    if (index < ours.size()) unsupported_.push_back(ours[index].name);
  }
  return {};
}

Result<> Session::submit(const graph::Flush& flush, std::vector<uint64_t> inline_uploads,
                         std::span<PendingAnswer* const> answers) {
  Turn turn(*this);
  if (in_flight_.size() >= jobs_in_flight_max_) {
    DJINN_CHECK(run_until(&turn, [this] { return in_flight_.size() < jobs_in_flight_max_; }));
  }
  if (lost_) return *lost_;
  auto job = std::make_shared<InFlight>();
  job->job = next_job_++;
  job->hash = flush.hash;
  job->numbers = std::make_shared<const graph::Numbers>(flush.numbers.begin(), flush.numbers.end());
  job->inline_uploads = std::move(inline_uploads);
  job->answers.assign(answers.begin(), answers.end());
  counters_.jobs++;
  counters_.upload_bytes += job->inline_uploads.size() * sizeof(uint64_t);
  CachedPlan* plan = plans_.find(flush.hash, flush.structure);
  job->structure = plan != nullptr ? plan->structure
                                   : std::make_shared<const graph::ByteString>(
                                         flush.structure.begin(), flush.structure.end());
  job->entries = flush.entries;
  job->staged_bytes = std::exchange(unconsumed_bytes_, 0);
  job->hint = std::exchange(held_hint_, nullptr);
  in_flight_.push_back(job);
  if (backoff_.due()) {  // It goes with those that were refused.
    DJINN_CHECK(keep_trying());
  } else {
    DJINN_CHECK(transmit(*job));
  }
  if (answers.empty()) {
    // Nobody waits: hand it to the kernel now. A job with answers goes out with the wait.
    DJINN_CHECK(loop_->run_once(std::chrono::nanoseconds(0)));
  }
  return {};
}

Result<> Session::transmit(InFlight& job) {
  if (job.hint != nullptr) send_hint(std::exchange(job.hint, nullptr));
  DJINN_TRY(JobFrame frame, encode_job(plans_, {.job = job.job,
                                                .epoch = epoch_,
                                                .has_payload = !job.inline_uploads.empty(),
                                                .hash = job.hash,
                                                .structure = job.structure,
                                                .numbers = job.numbers}));
  if (frame.kind == FrameKind::kStep) {
    connection_->send(frame.kind, frame.message.bytes(), {}, nullptr);
    counters_.steps++;
    return {};
  }
  if (frame.plan_bytes > 0) {
    counters_.plans++;
    counters_.plan_bytes += frame.plan_bytes;
    counters_.plan_ops += job.entries;
  }
  // The message and the uploads are borrowed by the connection: the callback keeps them.
  const auto message = std::make_shared<const codec::Message>(std::move(frame.message));
  connection_->send(frame.kind, message->bytes(), std::as_bytes(std::span(job.inline_uploads)),
                    [message, keep = job.shared_from_this()] {});
  return {};
}

Result<> Session::wait(PendingAnswer& answer) {
  Turn turn(*this);
  const uint64_t cancels = cancels_;
  // While its bytes come in they are let in: half a frame cannot be left.
  const auto cancelled = [&] { return receiving_ != &answer && cancels_ != cancels; };
  DJINN_CHECK(run_until(&turn, [&] { return answer.done || cancelled(); }));
  if (!answer.done) {
    abandon(answer);
    return Error{ErrorCode::kCancelled, "server " + options_.address + ": the wait was cancelled"};
  }
  if (answer.error) return *answer.error;
  return {};
}

// Nobody waits for it any more: when it comes, its bytes go nowhere.
void Session::abandon(PendingAnswer& answer) {
  for (const auto& job : in_flight_) {
    for (PendingAnswer*& each : job->answers) {
      if (each != &answer) continue;
      each = &job->abandoned.emplace_back();
      each->abandoned = true;
    }
  }
}

Result<> Session::run_once(std::chrono::nanoseconds timeout) {
  const auto ran = loop_->run_once(timeout);
  if (!ran && ran.error().code != ErrorCode::kCancelled) {  // A signal: nothing of ours.
    give_up(ran.error());
    return *lost_;
  }
  return {};
}

Result<> Session::run_until(Turn* turn, const std::function<bool()>& condition) {
  using std::chrono::steady_clock;
  uint64_t heard = loop_->stats().bytes_received;
  uint64_t said = loop_->stats().bytes_sent;
  auto since = steady_clock::now();
  while (!condition()) {
    if (lost_) return *lost_;
    DJINN_CHECK(keep_trying());
    const auto now = steady_clock::now();
    if (const auto due = backoff_.due()) {  // Nothing is due from the server.
      since = now;
      DJINN_CHECK(run_once(std::max(*due - now, steady_clock::duration::zero())));
      if (turn != nullptr) turn->lend();
      continue;
    }
    const auto left = since + options_.silence_timeout - now;
    if (left <= left.zero()) {
      give_up(unavailable(options_.address, "was silent for " +
                                                std::to_string(options_.silence_timeout.count()) +
                                                " ms while an answer was due"));
      return *lost_;
    }
    DJINN_CHECK(run_once(left));
    if (loop_->stats().bytes_received != heard || loop_->stats().bytes_sent != said) {
      heard = loop_->stats().bytes_received;
      said = loop_->stats().bytes_sent;
      since = steady_clock::now();
    }
    if (turn != nullptr) turn->lend();
  }
  return {};
}

// Ends the conversation from this side. The connection goes at once: the kernel may hold memory
// that its owner frees when he hears of it.
void Session::give_up(Error error) {
  fail(std::move(error));
  connection_.reset();
}

// The server ends a session that has sent more than it said it would hold for jobs to come.
Result<> Session::wait_for_staging_room(uint64_t bytes) {
  const auto fits = [&] {
    return staged_bytes_ == 0 ||
           (staged_bytes_ <= staged_bytes_max_ && bytes <= staged_bytes_max_ - staged_bytes_);
  };
  if (fits()) return {};
  // What waits for a job that is not sent yet, nothing here can wait for.
  return run_alone([&] { return fits() || staged_bytes_ == unconsumed_bytes_; });
}

Result<> Session::send_upload(const UploadSource& source, bool artifact) {
  struct Sending {
    codec::Message message;
    std::shared_ptr<const void> owner;
    Bytes forget;
    bool done = false;
  };
  const Bytes bytes = source.bytes;
  DJINN_CHECK(wait_for_staging_room(bytes.size()));
  auto sending = std::make_shared<Sending>();
  sending->message = codec::encode(
      codec::Upload{.upload = source.upload.value,
                    .artifact = artifact ? codec::ByteView(source.name) : codec::ByteView()});
  sending->owner = source.owner;
  if (source.forget) sending->forget = bytes;
  connection_->send(FrameKind::kUpload, sending->message.bytes(), bytes, [sending] {
    sending->done = true;
    if (!sending->forget.empty()) forget_pages(sending->forget);
    sending->owner.reset();
  });
  counters_.upload_bytes += bytes.size();
  staged_bytes_ += bytes.size();
  unconsumed_bytes_ += bytes.size();
  const bool behind_it = source.forget && bytes.size() > kFileWindowBytes;
  if (source.owner != nullptr && !behind_it) return {};
  size_t forgotten = 0;
  return run_alone([&] {
    const size_t sent = bytes.size() - std::min<size_t>(connection_->unsent_bytes(), bytes.size());
    if (behind_it && sent >= forgotten + kFileWindowBytes) {
      forget_pages(bytes.subspan(forgotten, sent - forgotten));
      forgotten = sent;
    }
    return sending->done && !lost_;
  });
}

Result<> Session::upload(const UploadSource& source) {
  Turn turn(*this);
  if (lost_) return *lost_;
  return send_upload(source, false);
}

Result<> Session::offer(std::span<const UploadSource> sources, std::vector<bool>& have) {
  codec::Offer offer;
  std::vector<uint8_t> names;
  for (const UploadSource& source : sources) {
    offer.uploads.push_back(source.upload.value);
    offer.lengths.push_back(source.bytes.size());
    names.insert(names.end(), source.name.begin(), source.name.end());
  }
  offer.names = names;
  const codec::Message message = codec::encode(offer);
  offer_reply_.reset();
  bool sent = false;
  connection_->send(FrameKind::kOffer, message.bytes(), {}, [&sent] { sent = true; });
  DJINN_CHECK(run_alone([&] { return sent && offer_reply_.has_value(); }));
  if (offer_reply_->size() != sources.size()) {
    give_up(unavailable(options_.address, "answered an offer of another length"));
    return *lost_;
  }
  have = std::move(*offer_reply_);
  counters_.offered += sources.size();
  return {};
}

Result<> Session::upload_artifacts(std::span<const UploadSource> sources) {
  Turn turn(*this);
  while (!sources.empty()) {
    if (lost_) return *lost_;
    const auto some = sources.first(std::min<size_t>(sources.size(), kArtifactOffersMax));
    std::vector<bool> have;
    DJINN_CHECK(offer(some, have));
    for (size_t i = 0; i < some.size(); ++i) {
      if (have[i]) {
        counters_.shared_bytes += some[i].bytes.size();
      } else {
        DJINN_CHECK(send_upload(some[i], true));
      }
    }
    sources = sources.subspan(some.size());
  }
  return {};
}

Result<> Session::hint(const codec::Hint& hint) {
  Turn turn(*this);
  if (lost_) return *lost_;
  auto message = std::make_shared<const codec::Message>(codec::encode(hint));
  if (backoff_.due()) {  // Behind the jobs that are held back: it is not about them.
    held_hint_ = std::move(message);
    return {};
  }
  send_hint(std::move(message));
  return run_once(std::chrono::nanoseconds(0));
}

void Session::send_hint(std::shared_ptr<const codec::Message> hint) {
  const codec::Bytes bytes = hint->bytes();
  connection_->send(FrameKind::kHint, bytes, {}, [hint = std::move(hint)] {});
}

Result<codec::StatsReply> Session::server_stats() {
  Turn turn(*this);
  if (lost_) return *lost_;
  const uint64_t cancels = cancels_;
  while (true) {
    // The server answers when all jobs have ended that it has let in: before it has them all, the
    // question is too early.
    DJINN_CHECK(run_until(&turn, [&] { return !backoff_.due() || cancels_ != cancels; }));
    const uint64_t again = counters_.refusals + counters_.resyncs;
    stats_reply_.reset();
    const uint32_t tag = ++stats_tag_;
    const codec::Message request = codec::encode(codec::StatsRequest{.tag = tag});
    connection_->send(FrameKind::kStats, request.bytes(), {}, nullptr);
    const auto answered = [&] { return stats_reply_ && stats_reply_->tag == tag; };
    DJINN_CHECK(run_until(&turn, [&] { return answered() || cancels_ != cancels; }));
    if (!answered()) {
      return Error{ErrorCode::kCancelled,
                   "server " + options_.address + ": the wait was cancelled"};
    }
    if (counters_.refusals + counters_.resyncs == again) return *stats_reply_;
  }
}

SessionCounters Session::counters() {
  Turn turn(*this);
  counters_.io = loop_->stats();
  return counters_;
}

void Session::cancel() {
  ++cancels_;
  loop_->wake();
}

}  // namespace djinn::client
