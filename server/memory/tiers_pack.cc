// SPDX-License-Identifier: Apache-2.0
// Long free parts of the device. What the tiers own may move, so enough free bytes are one free
// part if it is wanted: buffers slide together, in place and in the order in which they lie. Only
// what is in use, or arriving from the network, stays where it is.
#include <utility>

#include "serialization/base/limits.h"
#include "server/memory/tiers.h"

namespace djinn::server {
namespace {

constexpr uint64_t kBlockSlackBytes = 256;  // a block's administration and rounding

}  // namespace

bool Tiers::has_part(uint64_t bytes) const {
  return device_.usage().largest_free >= bytes + kBlockSlackBytes;
}

bool Tiers::make_part(uint64_t bytes) {
  while (!has_part(bytes)) {
    room_wanted_at_ = now_;  // What becomes free is for the operator, not for the mover.
    const uint64_t copies = copies_;
    const MemoryUsage usage = device_.usage();
    const bool in_pieces = usage.budget >= usage.used + bytes + kBlockSlackBytes;
    if (in_pieces && pack(bytes)) return true;
    if (evict_one(kAnyVictim, nullptr)) continue;
    if (moving_ > 0) {
      moved_.wait(mutex_);
    } else if (copies_ == copies) {
      return false;
    }
  }
  return true;
}

// Short results lie at the other end, which the mover has no use for.
void Tiers::promise_part(uint64_t bytes) {
  if (!make_part(bytes) || bytes < kTieredBytesMin) return;
  promised_ = device_.promise(bytes + kBlockSlackBytes);
  if (!promised_ || room_wanted_at_ != now_) return;
  room_wanted_at_ = 0;  // What is left is the mover's again.
  if (mover_waits_) progress_.notify_one();
}

TieredBuffer* Tiers::movable_behind(const void* address) {
  TieredBuffer* next = nullptr;
  for (TieredBuffer* const buffer : all_) {
    if (buffer->device_ == nullptr || buffer->moving_ || buffer->staged_ == buffer->device_ ||
        buffer->pins_ != buffer->arriving_ || buffer->device_ <= address) {
      continue;
    }
    if (next == nullptr || buffer->device_ < next->device_) next = buffer;
  }
  return next;
}

bool Tiers::pack(uint64_t bytes) {
  room_wanted_at_ = now_;  // The mover brings nothing meanwhile.
  bool moved = false;
  const void* done = nullptr;
  while (!has_part(bytes)) {
    TieredBuffer* const next = movable_behind(done);
    if (next == nullptr) break;
    begin_move(*next);
    void* const from = next->device_;
    mutex_.unlock();
    void* const to = device_.slide(from);
    mutex_.lock();
    next->device_ = to;
    end_move(*next);
    moved |= to != from;
    done = to;
  }
  if (moved) ++stats_.packs;
  return has_part(bytes);
}

void Tiers::pack_around(std::span<TieredBuffer* const> pinned) {
  const MutexLock lock(mutex_);
  if (std::exchange(promised_, false)) device_.end_promise();
  for (TieredBuffer* const buffer : pinned) ++buffer->arriving_;
  while (evict_one(kAnyVictim, nullptr) || moving_ > 0) {
    if (moving_ > 0) moved_.wait(mutex_);
  }
  pack(kNeverUsed - kBlockSlackBytes);
  for (TieredBuffer* const buffer : pinned) --buffer->arriving_;
  promised_ =
      device_.promise(device_.usage().largest_free);  // All of it, as nobody knows how much.
  ++stats_.retries;
}

}  // namespace djinn::server
