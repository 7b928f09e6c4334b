// SPDX-License-Identifier: Apache-2.0
// Sessions that pause: what is theirs alone leaves first, and is back when they go on. (The other
// part of tiers.cc.)
#include <algorithm>

#include "server/clock.h"
#include "server/memory/tiers.h"

namespace djinn::server {
namespace {

// Bytes that were brought back for a session stay so long behind the time that it named, as if they
// were used next. Then it was not true.
constexpr uint64_t kAwaitedNs = 1'000'000'000;
// What is brought back begins so much earlier than the copies should take: others have to leave for
// it, and timers are late.
constexpr uint64_t kLeadNs = 5'000'000;
constexpr uint64_t kLeadFactor = 2;
constexpr double kRateGain = 0.25;  // of the last copy in the measured rate

}  // namespace

void Tiers::rest(uint64_t session, const SessionState& state, uint64_t resume_ns) {
  const MutexLock lock(mutex_);
  rests_.end(session);
  const uint64_t now = now_ns();
  if (resume_ns <= now) {
    for (TieredBuffer* const buffer : state.own) await(*buffer, now);
    for (TieredBuffer* const buffer : state.shared) await(*buffer, now);
    wake_mover();
    return;
  }
  SessionRest rest{.session = session, .begin_ns = 0, .resume_ns = resume_ns, .buffers = {}};
  uint64_t bytes = 0;
  for (TieredBuffer* const buffer : state.own) {
    buffer->outlook_ = TieredBuffer::Outlook::kRests;
    rest.buffers.push_back(buffer->number_);
    bytes += buffer->bytes_;
  }
  for (TieredBuffer* const buffer : state.shared) {
    rest.buffers.push_back(buffer->number_);
    if (buffer->device_ == nullptr) bytes += buffer->bytes_;
  }
  if (resume_ns != kNoTime) {
    const auto copies_ns = static_cast<uint64_t>(static_cast<double>(bytes) / bytes_per_ns_);
    const uint64_t lead_ns = kLeadFactor * copies_ns + kLeadNs;
    rest.begin_ns = resume_ns > lead_ns ? resume_ns - lead_ns : 0;
    std::ranges::sort(rest.buffers);
    rests_.put(std::move(rest));
  }
  wake_mover();
}

void Tiers::end_rest(uint64_t session) {
  const MutexLock lock(mutex_);
  rests_.end(session);
}

void Tiers::await(TieredBuffer& buffer, uint64_t from_ns) {
  buffer.outlook_ = TieredBuffer::Outlook::kAwaited;
  buffer.awaited_until_ns_ = from_ns + kAwaitedNs;
}

void Tiers::end_due_rests() {
  while (const auto due = rests_.take_due(now_ns())) {
    for (TieredBuffer* const buffer : all_) {
      if (std::ranges::binary_search(due->buffers, buffer->number_)) {
        await(*buffer, due->resume_ns);
      }
    }
    make_mover_free();
  }
}

// What an operator wanted keeps the mover from taking room until the next tick, or job. The device
// may be idle, and then neither comes; an operator that runs says again what it wants.
void Tiers::make_mover_free() {
  room_wanted_at_ = 0;
  reserve_ = 0;
}

void Tiers::wake_mover() {
  make_mover_free();
  if (mover_waits_) progress_.notify_one();
}

void Tiers::measure(uint64_t bytes, uint64_t took_ns) {
  const double rate =
      static_cast<double>(bytes) / static_cast<double>(std::max<uint64_t>(took_ns, 1));
  bytes_per_ns_ += kRateGain * (rate - bytes_per_ns_);
}

bool Tiers::is_awaited(const TieredBuffer& buffer) {
  return buffer.outlook_ == TieredBuffer::Outlook::kAwaited && now_ns() < buffer.awaited_until_ns_;
}

}  // namespace djinn::server
