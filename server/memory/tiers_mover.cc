// SPDX-License-Identifier: Apache-2.0
// The thread that brings back what is used next. (A part of tiers.h's Tiers.)
#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "server/clock.h"
#include "server/memory/tiers.h"

namespace djinn::server {
namespace {

// The mover trades for what is needed this many ticks earlier, so that two buffers of the same
// step do not drive each other out.
constexpr double kHysteresis = 2;
// Copies begin earlier than they should take: rates vary, and who leaves may have to be copied
// first, which takes as long.
constexpr double kCopyFactor = 1.25;
constexpr double kLeadCopies = 2;
constexpr double kTickGain = 1.0 / 32;  // of the last tick in the measured length

}  // namespace

uint64_t Tiers::next_use(const TieredBuffer& buffer) const {
  return is_awaited(buffer) ? now_ : buffer.next_use_;
}

bool Tiers::is_expected(const TieredBuffer& buffer) const {
  const uint64_t use = next_use(buffer);
  return use != kNeverUsed && use >= now_ && buffer.outlook_ != TieredBuffer::Outlook::kRests;
}

// What is used next and is not on the device.
TieredBuffer* Tiers::wanted() {
  TieredBuffer* next = nullptr;
  for (TieredBuffer* const buffer : all_) {
    if (buffer->device_ != nullptr || buffer->moving_ || !is_expected(*buffer)) continue;
    if (next == nullptr || next_use(*buffer) < next_use(*next)) next = buffer;
  }
  return next;
}

// When copies have to begin, so that each of them ends before its bytes are used. Not earlier: who
// leaves for them is used again, too, and the later it is chosen the farther away that is. Else
// everything travels in every step, although most could have stayed.
uint64_t Tiers::latest_begin() const {
  if (tick_ns_ == 0) return now_;
  std::vector<std::pair<uint64_t, uint64_t>> absent;  // when used, and bytes
  for (const TieredBuffer* const buffer : all_) {
    if (buffer->device_ != nullptr || !is_expected(*buffer)) continue;
    absent.emplace_back(next_use(*buffer), buffer->bytes_);
  }
  std::ranges::sort(absent);
  uint64_t begin = kNeverUsed;
  double copies_ns = 0;
  double lead_ns = 0;
  for (const auto& [use, bytes] : absent) {
    const double copy_ns = static_cast<double>(bytes) / bytes_per_ns_;
    lead_ns = std::max(lead_ns, kLeadCopies * copy_ns);
    copies_ns += kCopyFactor * copy_ns;
    const auto ticks = 1 + static_cast<uint64_t>((lead_ns + copies_ns) / tick_ns_);
    begin = std::min(begin, use - std::min(ticks, use));
  }
  return begin;
}

// A device that waits for copies is not one that needs them later: what `pin` waits is not counted.
void Tiers::end_tick() {
  const uint64_t now = now_ns();
  const uint64_t began = std::exchange(tick_began_ns_, now);
  if (began == 0) return;
  const auto took = static_cast<double>(now - std::min(began, now));
  tick_ns_ += tick_ns_ == 0 ? took : kTickGain * (took - tick_ns_);
}

// False: there is nothing to bring, or no room for it.
bool Tiers::prefetch_one() {
  mover_wants_ = kNeverUsed;
  mover_begins_ = kNeverUsed;
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
    TieredBuffer* const leaving = victim(away + kHysteresis, limited ? account : nullptr);
    if (leaving == nullptr) return false;
    mover_begins_ = is_expected(*leaving) ? latest_begin() : now_;
    return mover_begins_ <= now_ && (evict(*leaving) || must_stay(*leaving));
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
