// SPDX-License-Identifier: Apache-2.0
// Who leaves the device when room is wanted, and how. (A part of tiers.h's Tiers.)
#include <algorithm>
#include <utility>

#include "server/memory/tiers.h"

namespace djinn::server {

Candidate Tiers::candidate(const TieredBuffer& buffer) const {
  return {.bytes = buffer.bytes_,
          .clean = buffer.host_current_,
          .last_use = buffer.last_use_,
          .next_use = next_use(buffer),
          .rests = buffer.outlook_ == TieredBuffer::Outlook::kRests};
}

TieredBuffer* Tiers::victim(double farther_than, const Account* of) {
  if (!policy_->evicts()) return nullptr;
  TieredBuffer* best = nullptr;
  double best_rank = 0;
  for (TieredBuffer* const buffer : all_) {
    if (buffer->device_ == nullptr || buffer->pins_ > 0 || buffer->moving_ ||
        buffer->staged_ == buffer->device_ || (of != nullptr && buffer->owner_.account != of) ||
        must_stay(*buffer)) {
      continue;
    }
    const Candidate candidate = this->candidate(*buffer);
    if (distance(candidate, now_) <= farther_than) continue;
    const double rank = policy_->rank(candidate, now_);
    if (best != nullptr && rank <= best_rank) continue;
    best = buffer;
    best_rank = rank;
  }
  return best;
}

void Tiers::drop_host_copy(TieredBuffer& buffer) {
  if (buffer.host_ != nullptr) host_.release(std::exchange(buffer.host_, nullptr));
  buffer.host_current_ = false;
}

bool Tiers::must_stay(const TieredBuffer& buffer) const {
  const Account* const account = buffer.owner_.account;
  return account != nullptr && !buffer.host_current_ && buffer.host_ == nullptr &&
         account->is_full(Tier::kHost, buffer.bytes_) &&
         std::ranges::find(full_, account) != full_.end();
}

bool Tiers::drop_twin(const Account* of) {
  for (TieredBuffer* const buffer : all_) {
    const bool twice = buffer->host_ != nullptr && buffer->device_ != nullptr;
    if (!twice || buffer->moving_ || buffer->staged_ == buffer->host_ ||
        (of != nullptr && buffer->owner_.account != of)) {
      continue;
    }
    drop_host_copy(*buffer);
    return true;
  }
  return false;
}

// Copies that the device has too go first, then what nobody uses. Where an account has its limit,
// only its own would help.
void* Tiers::host_memory(uint64_t bytes, const Owner& owner) {
  const auto limited = [&] {
    return owner.account != nullptr && owner.account->is_full(Tier::kHost, bytes);
  };
  void* memory = host_.allocate(bytes, owner);
  while (memory == nullptr && drop_twin(limited() ? owner.account : nullptr)) {
    memory = host_.allocate(bytes, owner);
  }
  if (memory == nullptr && limited()) {
    if (std::ranges::find(full_, owner.account) == full_.end()) full_.push_back(owner.account);
    return nullptr;
  }
  while (memory == nullptr && reclaim_) {
    const Reclaim reclaim = reclaim_;
    mutex_.unlock();
    const uint64_t freed = reclaim(bytes);
    mutex_.lock();
    memory = host_.allocate(bytes, owner);
    if (freed == 0) break;
  }
  return memory;
}

bool Tiers::evict(TieredBuffer& buffer) {
  if (buffer.host_current_) {
    ++stats_.drops;
  } else if (!spill(buffer)) {
    return false;
  } else if (buffer.pins_ > 0) {
    return true;  // Somebody wants it after all.
  }
  if (std::exchange(buffer.prefetched_, false)) ++stats_.wasted;
  device_.release(std::exchange(buffer.device_, nullptr));
  mover_wants_ = std::min(mover_wants_, buffer.next_use_);
  mover_begins_ = std::min(mover_begins_, now_);  // It decides again.
  return true;
}

bool Tiers::spill(TieredBuffer& buffer) {
  begin_move(buffer);  // Who pins it now waits, and so does who destroys it.
  if (buffer.host_ == nullptr) buffer.host_ = host_memory(buffer.bytes_, buffer.owner_);
  if (buffer.host_ != nullptr) {
    mutex_.unlock();
    link_.copy(buffer.host_, buffer.device_, buffer.bytes_);
    mutex_.lock();
    buffer.host_current_ = true;
    ++copies_;
    ++stats_.spills;
    stats_.spilled_bytes += buffer.bytes_;
  }
  end_move(buffer);
  return buffer.host_current_;
}

void Tiers::begin_move(TieredBuffer& buffer) {
  buffer.moving_ = true;
  ++moving_;
}

void Tiers::end_move(TieredBuffer& buffer) {
  buffer.moving_ = false;
  --moving_;
  moved_.notify_all();
}

bool Tiers::evict_one(double farther_than, const Account* of) {
  while (TieredBuffer* const leaving = victim(farther_than, of)) {
    if (evict(*leaving)) return true;
    if (!must_stay(*leaving)) return false;  // Else the next one is asked.
  }
  return false;
}

bool Tiers::make_room_locked(uint64_t bytes, const Account* account) {
  const uint64_t copies = copies_;
  const bool limited = account != nullptr && account->is_full(Tier::kDevice, bytes);
  const MemoryUsage usage = device_.usage();
  const bool in_pieces = !limited && usage.budget >= usage.used + bytes && !has_part(bytes);
  if (in_pieces && pack(bytes)) return true;
  if (evict_one(kAnyVictim, limited ? account : nullptr)) return true;
  if (moving_ > 0) {
    moved_.wait(mutex_);
    return true;
  }
  if (copies_ != copies) return true;
  if (!reclaim_) return false;
  const Reclaim reclaim = reclaim_;
  mutex_.unlock();
  const uint64_t freed = reclaim(bytes);
  mutex_.lock();
  return freed > 0;
}

bool Tiers::make_room(uint64_t bytes, const Account* account) {
  const MutexLock lock(mutex_);
  // What becomes free is for the operator that runs, not for the mover.
  room_wanted_at_ = now_;
  reserve_ = std::max(reserve_, bytes);
  if (make_room_locked(bytes, account)) return true;
  ++stats_.refusals;
  return false;
}

void Tiers::set_reclaim(Reclaim reclaim) {
  const MutexLock lock(mutex_);
  reclaim_ = std::move(reclaim);
}

void Tiers::set_policy(std::unique_ptr<MemoryPolicy> policy) {
  const MutexLock lock(mutex_);
  policy_ = std::move(policy);
  progress_.notify_one();
}

TierStats Tiers::stats() const {
  const MutexLock lock(mutex_);
  return stats_;
}

}  // namespace djinn::server
