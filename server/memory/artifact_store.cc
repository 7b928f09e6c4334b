// SPDX-License-Identifier: Apache-2.0
#include "server/memory/artifact_store.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <unordered_map>
#include <utility>
#include <vector>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

constexpr int kVerifierNice = 10;  // Whoever computes goes first.
constexpr size_t kLoaders = 3;     // One hashes, one reads, and one is between the two.

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
    return lend_again(at->second);
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

  // As judge and find, for what was read from disk and is verified.
  std::shared_ptr<Buffer> lend_loaded(const ItemPtr& item) {
    MutexLock lock(mutex_);
    if (closed_) return lend(item);
    const auto [at, is_new] = items_.emplace(item->name, item);
    if (is_new) {
      item->shared = true;
      ++stats_.artifacts;
      stats_.bytes += item->bytes;
      return lend(item);
    }
    return lend_again(at->second);  // Someone has uploaded it meanwhile.
  }

  void count_hit(uint64_t bytes) {
    MutexLock lock(mutex_);
    ++stats_.hits;
    stats_.bytes_saved += bytes;
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

  // An item that is shared.
  std::shared_ptr<Buffer> lend_again(const ItemPtr& item) REQUIRES(mutex_) {
    if (item->users == 0) {
      stats_.unused_bytes -= item->bytes;
      unused_.erase(item->unused);
    }
    return lend(item);
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
    : ArtifactStore(key, ArtifactDisk(), unused_bytes_max) {}

ArtifactStore::ArtifactStore(const ArtifactDisk& disk, uint64_t unused_bytes_max)
    : ArtifactStore(disk.cache != nullptr ? disk.cache->key() : random_artifact_key(), disk,
                    unused_bytes_max) {}

ArtifactStore::ArtifactStore(const ArtifactKey& key, ArtifactDisk disk, uint64_t unused_bytes_max)
    : key_(key),
      disk_(std::move(disk)),
      shelf_(std::make_shared<Shelf>(unused_bytes_max)),
      verifier_([this] { verify_main(); }),
      loads_(kLoaders, [this](const Wanted& wanted,
                              const std::string& tenant) { return load_one(wanted, tenant); }),
      models_(key_, disk_.model_folders,
              [this](const auto& path, const auto& tensors) { found_model(path, tensors); }) {
  pthread_setname_np(verifier_.native_handle(), "djinn-verify");
}

ArtifactStore::~ArtifactStore() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wanted_.notify_all();
    verified_.notify_all();
  }
  verifier_.join();
  shelf_->close();
}

std::shared_ptr<Buffer> ArtifactStore::find(const ArtifactName& name, uint64_t bytes) {
  return shelf_->find(name, bytes, false);
}

std::shared_ptr<Buffer> ArtifactStore::offer(const ArtifactName& name, uint64_t bytes) {
  auto found = shelf_->find(name, bytes, true);
  if (found != nullptr && disk_.cache != nullptr) disk_.cache->touch(name);
  return found;
}

bool ArtifactStore::is_coming(const Wanted& wanted) const {
  if (disk_.cache != nullptr && disk_.cache->has(wanted.name, wanted.bytes)) return true;
  if (models_.has(wanted.name, wanted.bytes)) return true;
  MutexLock lock(mutex_);
  return verifying_.contains(wanted.name);
}

void ArtifactStore::load(Load load) { loads_.push(std::move(load)); }

std::shared_ptr<Buffer> ArtifactStore::add(const ArtifactName& name,
                                           std::shared_ptr<Buffer> content, OnVerified done) {
  auto item = std::make_shared<Item>();
  item->name = name;
  item->bytes = content->bytes().size();
  item->content = std::move(content);
  std::shared_ptr<Buffer> lent = shelf_->lend_new(item);
  MutexLock lock(mutex_);
  verifying_.insert(name);
  checks_.push_back({.item = std::move(item), .content = lent, .done = std::move(done)});
  wanted_.notify_one();
  return lent;
}

uint64_t ArtifactStore::evict(uint64_t bytes) {
  const uint64_t freed = shelf_->evict(bytes);
  if (freed >= bytes) return freed;
  std::deque<Check> dropped;
  uint64_t dropped_bytes = 0;
  {
    MutexLock lock(mutex_);
    while (!writes_.empty() && freed + dropped_bytes < bytes) {
      dropped_bytes += writes_.front().item->bytes;
      dropped.push_back(std::move(writes_.front()));
      writes_.pop_front();
    }
    write_bytes_ -= dropped_bytes;
    unwritten_bytes_ += dropped_bytes;
    tell_if_settled();
  }
  // Those in use may leave the device now; the others are unused now.
  for (const Check& each : dropped) each.content->drop_host();
  dropped.clear();
  return std::max(freed + shelf_->evict(bytes - freed), dropped_bytes);
}

ArtifactStats ArtifactStore::stats() const {
  ArtifactStats out = shelf_->stats();
  if (disk_.cache != nullptr) out.disk = disk_.cache->stats();
  out.models = models_.stats();
  MutexLock lock(mutex_);
  for (const auto& [path, artifacts] : pinned_) {
    for (const auto& each : artifacts) out.pinned_bytes += each->length();
  }
  out.unwritten_bytes = unwritten_bytes_;
  return out;
}

void ArtifactStore::settle() {
  models_.settle();
  loads_.settle();
  MutexLock lock(mutex_);
  while (!checks_.empty() || !writes_.empty() || checking_) settled_.wait(mutex_);
}

void ArtifactStore::tell_if_settled() {
  if (checks_.empty() && writes_.empty()) settled_.notify_all();
}

// -- verifying and writing

bool ArtifactStore::writes_first() const {
  return !writes_.empty() && (checks_.empty() || write_bytes_ > kDiskWriteBytesQueuedMax);
}

void ArtifactStore::verify_main() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kVerifierNice);
  while (true) {
    Check check;
    bool verified = false;
    {
      MutexLock lock(mutex_);
      checking_ = false;
      tell_if_settled();
      while (!stopping_ && checks_.empty() && writes_.empty()) wanted_.wait(mutex_);
      if (stopping_) return;
      verified = writes_first();
      std::deque<Check>& queue = verified ? writes_ : checks_;
      check = std::move(queue.front());
      queue.pop_front();
      if (verified) write_bytes_ -= check.item->bytes;
      checking_ = true;
    }
    if (verified) {
      write(check);
    } else {
      verify(std::move(check));
    }
  }
}

void ArtifactStore::verify(Check check) {
  const bool good = artifact_name(key_, check.content->bytes()) == check.item->name;
  shelf_->judge(check.item, good);
  {
    MutexLock lock(mutex_);
    verifying_.erase(verifying_.find(check.item->name));
    verified_.notify_all();
  }
  const Wanted is{.name = check.item->name, .bytes = check.item->bytes};
  const bool write = good && disk_.cache != nullptr && !models_.has(is.name, is.bytes);
  if (!write) check.content->drop_host();
  check.done(good);
  check.done = nullptr;
  if (!write) return;
  MutexLock lock(mutex_);
  write_bytes_ += check.item->bytes;
  writes_.push_back(std::move(check));
}

void ArtifactStore::write(const Check& check) {
  // The disk cache counts what fails; nothing is lost but time.
  (void)disk_.cache->write(check.item->name, check.content->bytes());
  check.content->drop_host();
}

// -- loading

void ArtifactStore::wait_until_verified(const ArtifactName& name) {
  MutexLock lock(mutex_);
  while (!stopping_ && verifying_.contains(name)) verified_.wait(mutex_);
}

std::shared_ptr<Buffer> ArtifactStore::load_one(const Wanted& wanted, const std::string& tenant) {
  wait_until_verified(wanted.name);
  auto found = shelf_->find(wanted.name, wanted.bytes, false);  // Others may have wanted it too.
  if (found == nullptr) {
    if (!is_coming(wanted)) return nullptr;
    const auto staged = stage(wanted.bytes, tenant);
    if (!staged || !read(wanted, (*staged)->bytes())) return nullptr;
    (*staged)->drop_host();
    auto item = std::make_shared<Item>();
    item->name = wanted.name;
    item->bytes = wanted.bytes;
    item->content = *staged;
    found = shelf_->lend_loaded(item);
  }
  shelf_->count_hit(wanted.bytes);
  return found;
}

bool ArtifactStore::read(const Wanted& wanted, std::span<std::byte> to) {
  return models_.read(wanted.name, to) ||
         (disk_.cache != nullptr && disk_.cache->read(wanted.name, to));
}

void ArtifactStore::found_model(const std::string& path,
                                const Result<std::vector<Wanted>>& tensors) {
  if (disk_.on_model_file) disk_.on_model_file(path, tensors);
  if (!tensors || !disk_.pins || !disk_.pins(path)) return;
  load({.wanted = *tensors,
        .tenant = std::string(kOperator),
        .asker = shelf_,
        .done = [this, path](std::vector<std::shared_ptr<Buffer>> loaded) {
          const size_t missing = std::erase(loaded, nullptr);
          if (disk_.on_pinned) disk_.on_pinned(path, missing);
          const MutexLock lock(mutex_);
          std::swap(pinned_[path], loaded);  // What was there before goes without the lock.
        }});
}

Result<std::shared_ptr<Buffer>> ArtifactStore::stage(uint64_t bytes, const std::string& tenant) {
  auto buffer = disk_.stage(bytes, tenant);
  if (buffer || buffer.error().code != ErrorCode::kOutOfMemory) return buffer;
  if (evict(bytes) == 0) return buffer;
  return disk_.stage(bytes, tenant);
}

}  // namespace djinn::server
