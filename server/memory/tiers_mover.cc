// SPDX-License-Identifier: Apache-2.0
// The thread that brings back what is used next. (A part of tiers.h's Tiers.)
#include <chrono>

#include "server/clock.h"
#include "server/memory/tiers.h"

namespace djinn::server {
namespace {

// The mover trades for what is needed this many ticks earlier, so that two buffers of the same
// step do not drive each other out.
constexpr double kHysteresis = 2;

}  // namespace

uint64_t Tiers::next_use(const TieredBuffer& buffer) const {
  return is_awaited(buffer) ? now_ : buffer.next_use_;
}

// What is used next and is not on the device.
TieredBuffer* Tiers::wanted() {
  TieredBuffer* next = nullptr;
  for (TieredBuffer* const buffer : all_) {
    if (buffer->device_ != nullptr || buffer->moving_ ||
        buffer->outlook_ == TieredBuffer::Outlook::kRests) {
      continue;
    }
    const uint64_t use = next_use(*buffer);
    if (use == kNeverUsed || use < now_) continue;
    if (next == nullptr || use < next_use(*next)) next = buffer;
  }
  return next;
}

// False: there is nothing to bring, or no room for it.
bool Tiers::prefetch_one() {
  mover_wants_ = kNeverUsed;
  if (!policy_->prefetches() || room_wanted_at_ == now_) return false;
  TieredBuffer* const buffer = wanted();
  if (buffer == nullptr) return false;
  mover_wants_ = next_use(*buffer);
  const MemoryUsage usage = device_.usage();
  void* memory = nullptr;
  if (usage.budget == 0 || usage.used + buffer->bytes_ + reserve_ <= usage.budget) {
    memory = device_.allocate(buffer->bytes_, buffer->owner_);
  }
  if (memory == nullptr) {
    const double away = distance(candidate(*buffer), now_);
    const Account* const account = buffer->owner_.account;
    const bool limited = account != nullptr && account->is_full(Tier::kDevice, buffer->bytes_);
    return evict_one(away + kHysteresis, limited ? account : nullptr);
  }
  buffer->prefetched_ = true;
  ++stats_.prefetches;
  stats_.prefetched_bytes += buffer->bytes_;
  copy_in(*buffer, memory);
  return true;
}

void Tiers::mover_main() {
  const MutexLock lock(mutex_);
  while (!stopping_) {
    end_due_rests();
    if (prefetch_one()) continue;
    mover_waits_ = true;
    const uint64_t next_ns = rests_.next_ns();
    if (next_ns == kNoTime) {
      progress_.wait(mutex_);
    } else if (const uint64_t now = now_ns(); now < next_ns) {
      progress_.wait_for(mutex_, std::chrono::nanoseconds(next_ns - now));
    }
    mover_waits_ = false;
  }
}

}  // namespace djinn::server
