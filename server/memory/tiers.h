// SPDX-License-Identifier: Apache-2.0
// Tiers: where the bytes of storages are - on the device, in host memory, or both - and the thread
// that moves them before they are missed.
//
// The device's budget is hard: what does not fit goes to the host, and comes back before the
// operator that reads it runs. Who leaves is the policy's choice; bytes that the host has already
// are dropped, not copied. An operator pins what it uses, so the device must hold one operator's
// operands at a time and not a whole job's.
// Ownership: buffers keep the tiers alive, and the tiers the memories' contents; the memories
// themselves are borrowed. Threading: any thread, if not said otherwise.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <unordered_map>
#include <vector>

#include "serialization/base/mutex.h"
#include "serialization/base/result.h"
#include "server/memory/account.h"
#include "server/memory/link.h"
#include "server/memory/policy.h"
#include "server/memory/rests.h"
#include "server/memory/usage.h"

namespace djinn::server {

// The memory of one tier.
class TierMemory {
 public:
  virtual ~TierMemory() = default;
  // Aligned to 64 bytes. Null: there is no room. Never waits and moves nothing.
  virtual void* allocate(uint64_t bytes, const Owner& owner) = 0;
  virtual void release(void* memory) = 0;
  // Moves a block, bytes and all, next to the one that lies before it, if what lies between is
  // free; returns where it is now. Nobody uses the block meanwhile.
  [[nodiscard]] virtual void* slide(void* memory) { return memory; }
  // Sets a part of so many bytes aside for what this thread allocates next, until `end_promise`.
  // False: there is no such part.
  [[nodiscard]] virtual bool promise(uint64_t bytes) { return usage().largest_free >= bytes; }
  virtual void end_promise() {}
  [[nodiscard]] virtual MemoryUsage usage() const = 0;
};

class Tiers;

// The bytes of one storage. Immutable in length; where they are, the tiers say.
class TieredBuffer {
 public:
  ~TieredBuffer();
  TieredBuffer(const TieredBuffer&) = delete;
  TieredBuffer& operator=(const TieredBuffer&) = delete;

  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  // Where they are on the device. Only while pinned there.
  [[nodiscard]] void* device() const { return device_; }
  // Where `stage` put them. Until they are let go.
  [[nodiscard]] void* staged() const { return staged_; }

 private:
  friend class Tiers;
  TieredBuffer(std::shared_ptr<Tiers> tiers, uint64_t bytes, const Owner& owner)
      : tiers_(std::move(tiers)), bytes_(bytes), owner_(owner) {}

  const std::shared_ptr<Tiers> tiers_;
  const uint64_t bytes_;
  const Owner owner_;
  // -- under the tiers' lock; device_ also without it by who has pinned it.
  void* device_ = nullptr;
  void* host_ = nullptr;
  void* staged_ = nullptr;     // Not null: that one of the two stays until `let_go`.
  bool host_current_ = false;  // The host's copy is what the device has.
  bool moving_ = false;        // Someone copies, without the lock.
  bool prefetched_ = false;    // and not used since
  uint32_t pins_ = 0;
  uint32_t arriving_ = 0;  // Of these, by a `pin` that has not returned: it may still move.
  uint64_t last_use_ = 0;
  uint64_t next_use_ = kNeverUsed;
  // What is known beside the plans: its session pauses; or goes on about now. Until it is used.
  enum class Outlook : uint8_t { kPlans, kRests, kAwaited };
  Outlook outlook_ = Outlook::kPlans;
  uint64_t awaited_until_ns_ = 0;
  uint64_t number_ = 0;  // never the same one twice
  size_t place_ = 0;     // in Tiers::all_
};

using TieredBufferPtr = std::shared_ptr<TieredBuffer>;

class Tiers : public std::enable_shared_from_this<Tiers> {
 public:
  struct Options {
    std::unique_ptr<MemoryPolicy> policy;
    uint64_t link_bytes_per_second = 0;
  };
  Tiers(TierMemory& device, TierMemory& host, Options options);
  ~Tiers();
  Tiers(const Tiers&) = delete;
  Tiers& operator=(const Tiers&) = delete;

  // -- making buffers

  // Takes over memory of the device. It comes pinned once.
  [[nodiscard]] TieredBufferPtr adopt(void* device, uint64_t bytes, const Owner& owner);
  // Whether so many more bytes of this account could still leave the device in the end, so that
  // they are nobody else's trouble: its limit of the host bounds what it has in all. kOutOfMemory
  // names the tenant and the limit.
  Result<> may_hold(const Account* account, uint64_t bytes);
  // Uninitialised room for bytes that arrive: on the host, or where that is full on the device. It
  // stays where it is until `let_go`. Null: nowhere.
  [[nodiscard]] TieredBufferPtr stage(uint64_t bytes, const Owner& owner);
  // From here on a staged buffer may move.
  void let_go(TieredBuffer& buffer);

  // -- using them: the thread that runs the device's jobs

  // Brings all of them to the device, where they stay until they are unpinned, and sets so many
  // free bytes in one part aside for what this thread allocates until then, if there is any way to:
  // all that may move is packed for it. The new bytes will be that account's, if there is one.
  // kOutOfMemory: what is pinned leaves no room, or the account may not have so much (`may_hold`);
  // nothing is pinned then.
  Result<> pin(std::span<TieredBuffer* const> buffers, uint64_t new_bytes = 0,
               const Account* account = nullptr);
  // They are pinned, and not in use: all others leave, and these move together, so that what is
  // free is one part. For an operator that found no room and can run again.
  void pack_around(std::span<TieredBuffer* const> pinned);
  struct Use {
    TieredBuffer* buffer = nullptr;
    uint64_t next_use = kNeverUsed;  // when it is expected to be used again
    bool written = false;            // The host's copy is stale.
  };
  // A tick of the clock ends with this.
  void unpin(std::span<const Use> uses);
  // The clock's next tick: "now" for predictions.
  [[nodiscard]] uint64_t now() const;
  // What a job that begins will use first when, and what it needs for new bytes.
  void expect(std::span<const Use> uses, uint64_t reserve_bytes);
  // How long it would take to bring those of them to the device that are not there, at the rate
  // that copies had so far.
  [[nodiscard]] uint64_t load_ns(std::span<const TieredBuffer* const> buffers) const;
  // How many copies between the tiers have ended.
  [[nodiscard]] uint64_t copies() const;
  // What has just arrived, and nobody has pinned.
  void expect_use(TieredBuffer& buffer, uint64_t next_use);

  // -- sessions that pause (tiers_rests.cc)

  struct SessionState {
    std::vector<TieredBuffer*> own;     // nobody else's
    std::vector<TieredBuffer*> shared;  // weights that others may use, too
  };
  // The session pauses until about then (kNoTime: nobody knows): what it has alone leaves before
  // anything else where room is wanted, and all of its state is brought back in time. A time that
  // has passed: it goes on now. Anyone may say so; it changes who leaves first, and nothing else.
  void rest(uint64_t session, const SessionState& state, uint64_t resume_ns);
  // It goes on, or is gone.
  void end_rest(uint64_t session);

  // -- room (tiers_room.cc; in one part: tiers_pack.cc)

  // Makes something leave the device, or waits for what is leaving; false: nothing can. If the
  // account has its limit, it must be something of its own. Called when an allocation of so many
  // bytes failed, by any thread that holds no lock.
  bool make_room(uint64_t bytes, const Account* account);
  // Frees host or device memory that nobody uses any more (unused artifacts); 0: there is none.
  using Reclaim = std::function<uint64_t(uint64_t bytes)>;
  void set_reclaim(Reclaim reclaim);
  void set_policy(std::unique_ptr<MemoryPolicy> policy);

  [[nodiscard]] TierStats stats() const;
  [[nodiscard]] MemoryUsage device_usage() const { return device_.usage(); }
  [[nodiscard]] MemoryUsage host_usage() const { return host_.usage(); }
  // All of these.
  [[nodiscard]] TierReport report() const {
    return {.tiered = true, .device = device_usage(), .host = host_usage(), .moved = stats()};
  }

 private:
  friend class TieredBuffer;

  TieredBufferPtr track(TieredBufferPtr buffer);
  void forget(TieredBuffer& buffer);
  Result<> may_hold_locked(const Account* account, uint64_t bytes) REQUIRES(mutex_);
  Result<> may_ever_fit(std::span<TieredBuffer* const> buffers, uint64_t new_bytes)
      REQUIRES(mutex_);
  bool bring_in(TieredBuffer& buffer) REQUIRES(mutex_);
  bool bring_all_in(std::span<TieredBuffer* const> buffers) REQUIRES(mutex_);
  // Makes a free part of the device that is so long, if it can, and sets it aside.
  void promise_part(uint64_t bytes) REQUIRES(mutex_);
  bool make_part(uint64_t bytes) REQUIRES(mutex_);
  [[nodiscard]] bool has_part(uint64_t bytes) const REQUIRES(mutex_);
  // Moves together what may move, until there is such a part; false: there is none.
  bool pack(uint64_t bytes) REQUIRES(mutex_);
  TieredBuffer* movable_behind(const void* address) REQUIRES(mutex_);
  [[nodiscard]] bool is_roomy() const REQUIRES(mutex_);
  void copy_in(TieredBuffer& buffer, void* memory) REQUIRES(mutex_);
  static constexpr double kAnyVictim = -1;  // farther away than that is everything
  // The one that the policy lets go first, of those used farther away, and of this account if there
  // is one; null: none.
  TieredBuffer* victim(double farther_than, const Account* of) REQUIRES(mutex_);
  // It would have to be copied to the host, where its account has its limit.
  [[nodiscard]] bool must_stay(const TieredBuffer& buffer) const REQUIRES(mutex_);
  // False: it must stay, for want of room on the host.
  bool evict(TieredBuffer& buffer) REQUIRES(mutex_);
  bool spill(TieredBuffer& buffer) REQUIRES(mutex_);
  void begin_move(TieredBuffer& buffer) REQUIRES(mutex_);
  void end_move(TieredBuffer& buffer) REQUIRES(mutex_);
  bool evict_one(double farther_than, const Account* of) REQUIRES(mutex_);
  void drop_host_copy(TieredBuffer& buffer) REQUIRES(mutex_);
  bool make_room_locked(uint64_t bytes, const Account* account) REQUIRES(mutex_);
  void* host_memory(uint64_t bytes, const Owner& owner) REQUIRES(mutex_);
  // Of the account, if there is one, a copy that the device has too; false: there is none.
  bool drop_twin(const Account* of) REQUIRES(mutex_);
  [[nodiscard]] Candidate candidate(const TieredBuffer& buffer) const REQUIRES(mutex_);
  static void await(TieredBuffer& buffer, uint64_t from_ns);
  static bool is_awaited(const TieredBuffer& buffer);
  void end_due_rests() REQUIRES(mutex_);
  void make_mover_free() REQUIRES(mutex_);
  void wake_mover() REQUIRES(mutex_);
  void measure(uint64_t bytes, uint64_t took_ns) REQUIRES(mutex_);
  // The tick at which the buffer is needed; kNeverUsed: nobody knows of any.
  [[nodiscard]] uint64_t next_use(const TieredBuffer& buffer) const REQUIRES(mutex_);
  // A plan, or a session that goes on, is known to use it.
  [[nodiscard]] bool is_expected(const TieredBuffer& buffer) const REQUIRES(mutex_);
  TieredBuffer* wanted() REQUIRES(mutex_);
  [[nodiscard]] uint64_t latest_begin() const REQUIRES(mutex_);
  void end_tick() REQUIRES(mutex_);
  bool prefetch_one() REQUIRES(mutex_);
  void mover_main();

  TierMemory& device_;
  TierMemory& host_;
  Link link_;

  mutable Mutex mutex_;
  std::condition_variable_any moved_;     // A copy ended.
  std::condition_variable_any progress_;  // The mover may find something to do.
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool mover_waits_ GUARDED_BY(mutex_) = false;
  uint64_t mover_wants_ GUARDED_BY(mutex_) = kNeverUsed;  // the next use of what it has no room for
  uint64_t mover_begins_ GUARDED_BY(mutex_) = kNeverUsed;  // the tick at which it makes that room
  size_t moving_ GUARDED_BY(mutex_) = 0;
  uint64_t copies_ GUARDED_BY(mutex_) = 0;  // that have ended: what they held fast may move
  uint64_t now_ GUARDED_BY(mutex_) = 1;
  uint64_t reserve_ GUARDED_BY(mutex_) = 0;         // what the mover leaves free
  bool promised_ GUARDED_BY(mutex_) = false;        // to the operator that runs
  uint64_t room_wanted_at_ GUARDED_BY(mutex_) = 0;  // the tick of the last make_room
  std::unique_ptr<MemoryPolicy> policy_ GUARDED_BY(mutex_);
  Reclaim reclaim_ GUARDED_BY(mutex_);
  std::vector<TieredBuffer*> all_ GUARDED_BY(mutex_);
  uint64_t tracked_bytes_ GUARDED_BY(mutex_) = 0;  // of all of these
  // Likewise of each account, blocks' administration included.
  std::unordered_map<const Account*, uint64_t> held_bytes_ GUARDED_BY(mutex_);
  // Their limits of the host are reached, and no copy of theirs is there in vain.
  std::vector<const Account*> full_ GUARDED_BY(mutex_);
  uint64_t next_number_ GUARDED_BY(mutex_) = 1;
  Rests rests_ GUARDED_BY(mutex_);
  double bytes_per_ns_ GUARDED_BY(mutex_) = 1;     // of copies to the device, measured
  double tick_ns_ GUARDED_BY(mutex_) = 0;          // what one takes, measured; 0: not yet
  uint64_t tick_began_ns_ GUARDED_BY(mutex_) = 0;  // later by what it has waited; 0: not known
  TierStats stats_ GUARDED_BY(mutex_);

  std::thread mover_;  // Last: it uses all of the above.
};

}  // namespace djinn::server
