// SPDX-License-Identifier: Apache-2.0
// What a session is told: answers of its jobs and of its offers, acks and stats.
#include <utility>

#include "serialization/base/limits.h"
#include "server/clock.h"
#include "server/session.h"

namespace djinn::server {
namespace {

using transport::FrameKind;

Error exhausted(std::string text) { return {ErrorCode::kExhausted, std::move(text)}; }

}  // namespace

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
    place_.queue->rates.take_bytes(report.bytes->bytes.size(), now_ns());
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

}  // namespace djinn::server
