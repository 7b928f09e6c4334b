// SPDX-License-Identifier: Apache-2.0
#include "server/memory/tiers.h"

#include <pthread.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <time.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "server/clock.h"

namespace djinn::server {
namespace {

// The mover trades for what is needed this many ticks earlier, so that two buffers of the same
// step do not drive each other out.
constexpr double kHysteresis = 2;
constexpr uint64_t kLinkPieceBytes = uint64_t{1} << 20;

void sleep_until(uint64_t at_ns) {
  const timespec at{.tv_sec = static_cast<time_t>(at_ns / 1'000'000'000),
                    .tv_nsec = static_cast<long>(at_ns % 1'000'000'000)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
  }
}

// Past the caches, like a copy engine: what is written is not read soon by this core, and the
// operator that runs beside it keeps its lines and two thirds of the memory traffic.
void copy_past_caches(void* to, const void* from, uint64_t bytes) {
#ifdef __SSE2__
  static_assert(MappedMemory::kAlignment % sizeof(__m128i) == 0);
  const uint64_t lines = bytes / 64;
  auto* destination = static_cast<__m128i*>(to);
  const auto* source = static_cast<const __m128i*>(from);
  for (uint64_t i = 0; i < lines; ++i, destination += 4, source += 4) {
    const __m128i a = _mm_loadu_si128(source);
    const __m128i b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2);
    const __m128i d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(destination, a);
    _mm_stream_si128(destination + 1, b);
    _mm_stream_si128(destination + 2, c);
    _mm_stream_si128(destination + 3, d);
  }
  _mm_sfence();
  std::memcpy(destination, source, bytes % 64);
#else
  std::memcpy(to, from, bytes);
#endif
}

}  // namespace

// -- Link

void Link::copy(void* to, const void* from, uint64_t bytes) {
  if (rate_ == 0) {
    copy_past_caches(to, from, bytes);
    return;
  }
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t piece = std::min(bytes - done, kLinkPieceBytes);
    uint64_t due_ns = 0;
    {
      const MutexLock lock(mutex_);  // Two copies share the link, piece by piece.
      free_at_ns_ = std::max(free_at_ns_, now_ns()) + piece * 1'000'000'000 / rate_;
      due_ns = free_at_ns_;
    }
    copy_past_caches(static_cast<std::byte*>(to) + done, static_cast<const std::byte*>(from) + done,
                     piece);
    sleep_until(due_ns);
    done += piece;
  }
}

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
  all_.push_back(buffer.get());
  return buffer;
}

void Tiers::forget(TieredBuffer& buffer) {
  const MutexLock lock(mutex_);
  while (buffer.moving_) moved_.wait(mutex_);
  all_.back()->place_ = buffer.place_;
  std::swap(all_[buffer.place_], all_.back());
  all_.pop_back();
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

TieredBufferPtr Tiers::stage(uint64_t bytes, const Owner& owner) {
  void* device = nullptr;
  void* host = nullptr;
  {
    const MutexLock lock(mutex_);
    const bool evicts = policy_->evicts();  // Else what is on the host could never come back.
    // Where things leave already, bytes that cannot move for a while would cut what is left.
    if (evicts && is_pressed()) host = host_memory(bytes, owner);
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
  if (buffer.device_ != nullptr && !buffer.host_current_ && !buffer.moving_) drop_host_copy(buffer);
  if (mover_waits_) progress_.notify_one();
}

// -- using them

Result<> Tiers::pin(std::span<TieredBuffer* const> buffers, uint64_t new_bytes) {
  const MutexLock lock(mutex_);
  DJINN_CHECK(may_ever_fit(buffers, new_bytes));
  for (TieredBuffer* const buffer : buffers) {
    ++buffer->pins_;
    ++buffer->arriving_;
  }
  const bool there = bring_all_in(buffers);
  if (there && new_bytes > 0) promise_part(new_bytes);
  for (TieredBuffer* const buffer : buffers) --buffer->arriving_;
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

void Tiers::copy_in(TieredBuffer& buffer, void* memory) {
  begin_move(buffer);
  const uint64_t begin_ns = now_ns();
  mutex_.unlock();
  link_.copy(memory, buffer.host_, buffer.bytes_);
  mutex_.lock();
  measure(buffer.bytes_, now_ns() - begin_ns);
  buffer.device_ = memory;
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
    wake |= use.next_use > mover_wants_;
  }
  wake |= room_wanted_at_ == now_;
  if (std::exchange(promised_, false)) device_.end_promise();
  ++now_;
  if (wake && mover_waits_) progress_.notify_one();
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
  if (mover_waits_) progress_.notify_one();
}

// -- room

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
        buffer->staged_ == buffer->device_ || (of != nullptr && buffer->owner_.account != of)) {
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

// Copies that the device has too go first, then what nobody uses.
void* Tiers::host_memory(uint64_t bytes, const Owner& owner) {
  void* memory = host_.allocate(bytes, owner);
  for (size_t i = 0; memory == nullptr && i < all_.size(); ++i) {
    TieredBuffer& buffer = *all_[i];
    const bool twice = buffer.host_ != nullptr && buffer.device_ != nullptr;
    if (!twice || buffer.moving_ || buffer.staged_ == buffer.host_) continue;
    drop_host_copy(buffer);
    memory = host_.allocate(bytes, owner);
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
  evicted_at_ = now_;
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
  TieredBuffer* const leaving = victim(farther_than, of);
  return leaving != nullptr && evict(*leaving);
}

bool Tiers::make_room_locked(uint64_t bytes, const Account* account) {
  const bool limited = account != nullptr && account->is_full(Tier::kDevice, bytes);
  const MemoryUsage usage = device_.usage();
  const bool in_pieces = !limited && usage.budget >= usage.used + bytes && !has_part(bytes);
  if (in_pieces && pack(bytes)) return true;
  if (evict_one(kAnyVictim, limited ? account : nullptr)) return true;
  if (moving_ > 0) {
    moved_.wait(mutex_);
    return true;
  }
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

// -- the mover

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
