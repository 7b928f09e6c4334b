// SPDX-License-Identifier: Apache-2.0
#include "server/memory/tiers.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "server/clock.h"

namespace djinn::server {
namespace {

constexpr uint64_t kBlockBytes = 256;  // of a block beside its bytes, at most

constexpr uint64_t held(uint64_t bytes) { return bytes + kBlockBytes; }

}  // namespace

// -- making buffers

TieredBuffer::~TieredBuffer() { tiers_->forget(*this); }

Tiers::Tiers(TierMemory& device, TierMemory& host, Options options)
    : device_(device),
      host_(host),
      link_(options.link_bytes_per_second),
      policy_(std::move(options.policy)),
      mover_([this] { mover_main(); }) {
  pthread_setname_np(mover_.native_handle(), "djinn-move");
}

Tiers::~Tiers() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    progress_.notify_all();
  }
  mover_.join();
}

TieredBufferPtr Tiers::track(TieredBufferPtr buffer) {
  const MutexLock lock(mutex_);
  buffer->place_ = all_.size();
  buffer->number_ = next_number_++;
  buffer->last_use_ = now_;
  tracked_bytes_ += buffer->bytes_;
  held_bytes_[buffer->owner_.account] += held(buffer->bytes_);
  all_.push_back(buffer.get());
  return buffer;
}

void Tiers::forget(TieredBuffer& buffer) {
  const MutexLock lock(mutex_);
  while (buffer.moving_) moved_.wait(mutex_);
  all_.back()->place_ = buffer.place_;
  std::swap(all_[buffer.place_], all_.back());
  all_.pop_back();
  tracked_bytes_ -= buffer.bytes_;
  held_bytes_[buffer.owner_.account] -= held(buffer.bytes_);
  if (buffer.device_ != nullptr) device_.release(buffer.device_);
  if (buffer.host_ != nullptr) host_.release(buffer.host_);
  if (buffer.prefetched_) ++stats_.wasted;
  if (mover_waits_ && buffer.device_ != nullptr) progress_.notify_one();
}

TieredBufferPtr Tiers::adopt(void* device, uint64_t bytes, const Owner& owner) {
  TieredBufferPtr buffer(new TieredBuffer(shared_from_this(), bytes, owner));
  buffer->device_ = device;
  buffer->pins_ = 1;
  return track(std::move(buffer));
}

Result<> Tiers::may_hold(const Account* account, uint64_t bytes) {
  const MutexLock lock(mutex_);
  return may_hold_locked(account, bytes);
}

// All of it may have to leave for somebody else, or for what comes back.
Result<> Tiers::may_hold_locked(const Account* account, uint64_t bytes) {
  const uint64_t most = account == nullptr ? 0 : account->limit(Tier::kHost);
  if (most == 0 || bytes == 0) return Unit{};
  const bool stays = account->limit(Tier::kDevice) == 0 && device_.usage().budget == 0;
  const uint64_t has = held_bytes_[account];
  if (stays || (has <= most && held(bytes) <= most - has)) return Unit{};
  ++stats_.refusals;
  return Error{ErrorCode::kOutOfMemory,
               "out of memory: " + std::to_string(bytes) + " bytes were asked for; tenant " +
                   account->tenant() + " has " + std::to_string(has) + " and may have " +
                   std::to_string(most) +
                   " altogether, its host-memory, as all of it may have to leave the device. Free "
                   "some, or ask the operator for more"};
}

TieredBufferPtr Tiers::stage(uint64_t bytes, const Owner& owner) {
  void* device = nullptr;
  void* host = nullptr;
  {
    const MutexLock lock(mutex_);
    const bool evicts = policy_->evicts();  // Else what is on the host could never come back.
    // On the device, bytes that cannot leave for a while would be in the way of those that work.
    if (evicts && device_.usage().budget != 0) host = host_memory(bytes, owner);
    if (host == nullptr) device = device_.allocate(bytes, owner);
    if (device == nullptr && host == nullptr && evicts) host = host_memory(bytes, owner);
  }
  if (device == nullptr && host == nullptr) return nullptr;
  TieredBufferPtr buffer(new TieredBuffer(shared_from_this(), bytes, owner));
  buffer->device_ = device;
  buffer->host_ = host;
  buffer->host_current_ = host != nullptr;
  buffer->staged_ = device != nullptr ? device : host;
  return track(std::move(buffer));
}

void Tiers::let_go(TieredBuffer& buffer) {
  const MutexLock lock(mutex_);
  buffer.staged_ = nullptr;
  const bool needless = !buffer.host_current_ || is_roomy();
  if (buffer.device_ != nullptr && needless && !buffer.moving_) drop_host_copy(buffer);
  if (mover_waits_) progress_.notify_one();
}

// -- using them

Result<> Tiers::pin(std::span<TieredBuffer* const> buffers, uint64_t new_bytes,
                    const Account* account) {
  const MutexLock lock(mutex_);
  DJINN_CHECK(may_hold_locked(account, new_bytes));
  DJINN_CHECK(may_ever_fit(buffers, new_bytes));
  const uint64_t begin_ns = now_ns();
  for (TieredBuffer* const buffer : buffers) {
    ++buffer->pins_;
    ++buffer->arriving_;
  }
  const bool there = bring_all_in(buffers);
  if (there && new_bytes > 0) promise_part(new_bytes);
  for (TieredBuffer* const buffer : buffers) --buffer->arriving_;
  if (tick_began_ns_ != 0) tick_began_ns_ += now_ns() - begin_ns;  // Waiting is not in it.
  if (there) return Unit{};
  uint64_t bytes = 0;
  for (TieredBuffer* const buffer : buffers) {
    --buffer->pins_;
    bytes += buffer->bytes_;
  }
  ++stats_.refusals;
  const MemoryUsage usage = device_.usage();
  return Error{ErrorCode::kOutOfMemory,
               "out of memory: " + std::to_string(bytes) + " bytes have to be on the device, " +
                   std::to_string(usage.budget - std::min(usage.used, usage.budget)) + " of " +
                   std::to_string(usage.budget) + " are free, the longest part has " +
                   std::to_string(usage.largest_free)};
}

// Nothing is moved for what cannot fit, however much leaves.
Result<> Tiers::may_ever_fit(std::span<TieredBuffer* const> buffers, uint64_t new_bytes) {
  uint64_t operands = 0;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const auto earlier = buffers.first(i);
    const bool again = std::ranges::find(earlier, buffers[i]) != earlier.end();
    if (!again) operands += buffers[i]->bytes_;
  }
  const MemoryUsage usage = device_.usage();
  const uint64_t together = operands + std::min(new_bytes, kNeverUsed - operands);
  if (usage.budget == 0 || together <= usage.budget) return Unit{};
  ++stats_.refusals;
  return Error{ErrorCode::kOutOfMemory,
               "out of memory: it needs " + std::to_string(together) +
                   " bytes on the device at once, " + std::to_string(operands) +
                   " of operands and " + std::to_string(new_bytes) +
                   " of results, and the device has " + std::to_string(usage.budget) + " (" +
                   std::to_string(usage.budget - std::min(usage.used, usage.budget)) +
                   " are free, the longest part has " + std::to_string(usage.largest_free) +
                   "): split the batch, or raise --device-memory"};
}

bool Tiers::bring_all_in(std::span<TieredBuffer* const> buffers) {
  for (TieredBuffer* const buffer : buffers) {
    if (!bring_in(*buffer)) return false;
  }
  return true;
}

bool Tiers::bring_in(TieredBuffer& buffer) {
  if (buffer.moving_) {
    ++stats_.late;
    buffer.prefetched_ = false;
    while (buffer.moving_) moved_.wait(mutex_);
  }
  if (buffer.device_ != nullptr) {
    if (std::exchange(buffer.prefetched_, false)) ++stats_.useful;
    return true;
  }
  void* memory = device_.allocate(buffer.bytes_, buffer.owner_);
  while (memory == nullptr) {
    if (!make_room_locked(buffer.bytes_, buffer.owner_.account)) return false;
    if (buffer.device_ != nullptr) return true;  // The mover was faster.
    while (buffer.moving_) moved_.wait(mutex_);
    if (buffer.device_ != nullptr) return true;
    memory = device_.allocate(buffer.bytes_, buffer.owner_);
  }
  copy_in(buffer, memory);
  ++stats_.loads;
  stats_.loaded_bytes += buffer.bytes_;
  return true;
}

// All there is fits, with something to spare: what is on the device will not have to leave, and
// another copy on the host would save nothing.
bool Tiers::is_roomy() const {
  const uint64_t budget = device_.usage().budget;
  return budget == 0 || tracked_bytes_ <= budget / 4 * 3;
}

void Tiers::copy_in(TieredBuffer& buffer, void* memory) {
  begin_move(buffer);
  const uint64_t begin_ns = now_ns();
  mutex_.unlock();
  link_.copy(memory, buffer.host_, buffer.bytes_);
  mutex_.lock();
  measure(buffer.bytes_, now_ns() - begin_ns);
  buffer.device_ = memory;
  if (buffer.staged_ == nullptr && is_roomy()) drop_host_copy(buffer);
  if (buffer.host_ != nullptr) std::erase(full_, buffer.owner_.account);
  ++copies_;
  end_move(buffer);
}

void Tiers::unpin(std::span<const Use> uses) {
  const MutexLock lock(mutex_);
  bool wake = false;
  for (const Use& use : uses) {
    TieredBuffer& buffer = *use.buffer;
    --buffer.pins_;
    buffer.last_use_ = now_;
    buffer.next_use_ = use.next_use;
    buffer.outlook_ = TieredBuffer::Outlook::kPlans;
    if (use.written) {
      buffer.host_current_ = false;
      if (buffer.staged_ == nullptr) drop_host_copy(buffer);
    }
    wake |= mover_begins_ == kNeverUsed && use.next_use > mover_wants_;
  }
  wake |= room_wanted_at_ == now_;
  if (std::exchange(promised_, false)) device_.end_promise();
  ++now_;
  wake |= now_ >= mover_begins_;
  end_tick();
  if (wake && mover_waits_) progress_.notify_one();
}

void Tiers::expect_use(TieredBuffer& buffer, uint64_t next_use) {
  const MutexLock lock(mutex_);
  buffer.next_use_ = next_use;
  if (mover_waits_) progress_.notify_one();
}

uint64_t Tiers::load_ns(std::span<const TieredBuffer* const> buffers) const {
  const MutexLock lock(mutex_);
  uint64_t bytes = 0;
  for (const TieredBuffer* const buffer : buffers) {
    if (buffer->device_ == nullptr) bytes += buffer->bytes_;
  }
  return static_cast<uint64_t>(static_cast<double>(bytes) / bytes_per_ns_);
}

uint64_t Tiers::copies() const {
  const MutexLock lock(mutex_);
  return copies_;
}

uint64_t Tiers::now() const {
  const MutexLock lock(mutex_);
  return now_;
}

void Tiers::expect(std::span<const Use> uses, uint64_t reserve_bytes) {
  const MutexLock lock(mutex_);
  for (const Use& use : uses) {
    use.buffer->next_use_ = use.next_use;
    use.buffer->outlook_ = TieredBuffer::Outlook::kPlans;
  }
  reserve_ = reserve_bytes;
  tick_began_ns_ = now_ns();
  if (mover_waits_) progress_.notify_one();
}

}  // namespace djinn::server
