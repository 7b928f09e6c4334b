// SPDX-License-Identifier: Apache-2.0
#include "server/memory/artifact_store.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <list>
#include <unordered_map>
#include <utility>
#include <vector>

namespace djinn::server {
namespace {

constexpr int kVerifierNice = 10;  // Whoever computes goes first.

}  // namespace

struct ArtifactStore::Item {
  ArtifactName name;
  std::shared_ptr<Buffer> content;
  uint64_t bytes = 0;
  uint64_t users = 0;
  bool shared = false;                                // Verified, and the one that others get.
  std::list<std::shared_ptr<Item>>::iterator unused;  // Its place there; valid if shared, no users.
};

// The artifacts by name, and who uses them. A user holds the buffer through a Lease; when the last
// Lease of an artifact dies, it joins the unused ones. Leases keep the shelf alive.
class ArtifactStore::Shelf : public std::enable_shared_from_this<Shelf> {
 public:
  using ItemPtr = std::shared_ptr<Item>;

  explicit Shelf(uint64_t unused_bytes_max) : unused_bytes_max_(unused_bytes_max) {}

  std::shared_ptr<Buffer> find(const ArtifactName& name, uint64_t bytes, bool offered) {
    MutexLock lock(mutex_);
    if (offered) ++stats_.offers;
    const auto at = items_.find(name);
    if (at == items_.end() || at->second->bytes != bytes) return nullptr;
    if (offered) {
      ++stats_.hits;
      stats_.bytes_saved += bytes;
    }
    if (at->second->users == 0) {
      stats_.unused_bytes -= bytes;
      unused_.erase(at->second->unused);
    }
    return lend(at->second);
  }

  std::shared_ptr<Buffer> lend_new(const ItemPtr& item) {
    MutexLock lock(mutex_);
    return lend(item);
  }

  // The item's content is what its name says, or is not. It is in use.
  void judge(const ItemPtr& item, bool good) {
    MutexLock lock(mutex_);
    ++(good ? stats_.verified : stats_.refused);
    // Of two who uploaded the same, the first is shared; the other's bytes stay its own.
    if (!good || closed_ || !items_.emplace(item->name, item).second) return;
    item->shared = true;
    ++stats_.artifacts;
    stats_.bytes += item->bytes;
  }

  uint64_t evict(uint64_t bytes) {
    std::vector<ItemPtr> dropped;  // Buffers are freed outside of the lock.
    MutexLock lock(mutex_);
    const uint64_t before = stats_.unused_bytes;
    dropped = shrink_unused(before > bytes ? before - bytes : 0);
    return before - stats_.unused_bytes;
  }

  void close() {
    std::vector<ItemPtr> dropped;
    MutexLock lock(mutex_);
    closed_ = true;
    dropped = shrink_unused(0);
    for (const auto& [name, item] : items_) item->shared = false;
    items_.clear();
  }

  [[nodiscard]] ArtifactStats stats() const {
    MutexLock lock(mutex_);
    return stats_;
  }

 private:
  class Lease {
   public:
    Lease(std::shared_ptr<Shelf> shelf, ItemPtr item)
        : shelf_(std::move(shelf)), item_(std::move(item)) {}
    ~Lease() { shelf_->give_back(std::move(item_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

   private:
    std::shared_ptr<Shelf> shelf_;
    ItemPtr item_;
  };

  std::shared_ptr<Buffer> lend(const ItemPtr& item) REQUIRES(mutex_) {
    ++item->users;
    return {std::make_shared<Lease>(shared_from_this(), item), item->content.get()};
  }

  void give_back(ItemPtr item) {
    std::vector<ItemPtr> dropped;
    MutexLock lock(mutex_);
    if (--item->users > 0) return;
    if (!item->shared) {
      dropped.push_back(std::move(item));
      return;
    }
    stats_.unused_bytes += item->bytes;
    item->unused = unused_.insert(unused_.end(), item);
    dropped = shrink_unused(unused_bytes_max_);
  }

  std::vector<ItemPtr> shrink_unused(uint64_t bytes_max) REQUIRES(mutex_) {
    std::vector<ItemPtr> dropped;
    while (stats_.unused_bytes > bytes_max) {
      dropped.push_back(std::move(unused_.front()));
      unused_.pop_front();
      const Item& item = *dropped.back();
      items_.erase(item.name);
      --stats_.artifacts;
      stats_.bytes -= item.bytes;
      stats_.unused_bytes -= item.bytes;
      stats_.evicted_bytes += item.bytes;
    }
    return dropped;
  }

  const uint64_t unused_bytes_max_;
  mutable Mutex mutex_;
  bool closed_ GUARDED_BY(mutex_) = false;
  std::unordered_map<ArtifactName, ItemPtr, ArtifactNameHash> items_ GUARDED_BY(mutex_);
  std::list<ItemPtr> unused_ GUARDED_BY(mutex_);  // The next to go comes first.
  ArtifactStats stats_ GUARDED_BY(mutex_);
};

ArtifactStore::ArtifactStore(const ArtifactKey& key, uint64_t unused_bytes_max)
    : key_(key),
      shelf_(std::make_shared<Shelf>(unused_bytes_max)),
      verifier_([this] { verify_main(); }) {
  pthread_setname_np(verifier_.native_handle(), "djinn-verify");
}

ArtifactStore::~ArtifactStore() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wanted_.notify_all();
  }
  verifier_.join();
  shelf_->close();
}

std::shared_ptr<Buffer> ArtifactStore::find(const ArtifactName& name, uint64_t bytes) {
  return shelf_->find(name, bytes, false);
}

std::shared_ptr<Buffer> ArtifactStore::offer(const ArtifactName& name, uint64_t bytes) {
  return shelf_->find(name, bytes, true);
}

std::shared_ptr<Buffer> ArtifactStore::add(const ArtifactName& name,
                                           std::shared_ptr<Buffer> content, OnVerified done) {
  auto item = std::make_shared<Item>();
  item->name = name;
  item->bytes = content->bytes().size();
  item->content = std::move(content);
  std::shared_ptr<Buffer> lent = shelf_->lend_new(item);
  MutexLock lock(mutex_);
  checks_.push_back({.item = std::move(item), .content = lent, .done = std::move(done)});
  wanted_.notify_one();
  return lent;
}

uint64_t ArtifactStore::evict(uint64_t bytes) { return shelf_->evict(bytes); }

ArtifactStats ArtifactStore::stats() const { return shelf_->stats(); }

void ArtifactStore::settle() {
  MutexLock lock(mutex_);
  while (!checks_.empty() || checking_) settled_.wait(mutex_);
}

void ArtifactStore::verify_main() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kVerifierNice);
  while (true) {
    Check check;
    {
      MutexLock lock(mutex_);
      checking_ = false;
      if (checks_.empty()) settled_.notify_all();
      while (!stopping_ && checks_.empty()) wanted_.wait(mutex_);
      if (stopping_) return;
      check = std::move(checks_.front());
      checks_.pop_front();
      checking_ = true;
    }
    const bool good = artifact_name(key_, check.content->bytes()) == check.item->name;
    shelf_->judge(check.item, good);
    check.content->drop_host();
    check.done(good);
  }
}

}  // namespace djinn::server
