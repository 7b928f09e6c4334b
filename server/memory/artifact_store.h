// SPDX-License-Identifier: Apache-2.0
// Artifact store: immutable bytes under the name of their content, one copy for all who use them.
//
// The first who uploads them uses them at once; others see them when a thread of low priority has
// hashed them and the name is right. Why not before: else one tenant could give others bytes that
// are not what their name says. What nobody uses stays for the next one, least recently used first
// out, up to a bound.
// Who asks for bytes that are being hashed is answered when that has ended: sending them again
// would take longer. With a disk cache, what is verified is also written to disk, when nothing
// waits to be verified; until then its bytes stay where they are, unless memory is wanted. What is
// on disk only, or in a model file of the operator's, is loaded by other threads (load_queue.h),
// which verify it: whoever asked is answered when it is there. Ownership: users share buffers; a
// buffer dies when it is neither used nor kept here. Users may outlive the store. Threading: any
// thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "serialization/base/mutex.h"
#include "server/executor.h"
#include "server/memory/artifact_name.h"
#include "server/memory/disk_cache.h"
#include "server/memory/load_queue.h"
#include "server/memory/model_files.h"

namespace djinn::server {

struct ArtifactStats {
  uint64_t offers = 0;       // names that were asked for
  uint64_t hits = 0;         // of these, there
  uint64_t bytes_saved = 0;  // not uploaded thanks to that
  uint64_t verified = 0;
  uint64_t refused = 0;    // content that was not what its name said
  uint64_t artifacts = 0;  // there now, and the bytes of those
  uint64_t bytes = 0;
  uint64_t unused_bytes = 0;  // kept though nobody uses them
  uint64_t evicted_bytes = 0;
  uint64_t unwritten_bytes = 0;  // not written to disk, because memory was wanted
  DiskStats disk;
  ModelFilesStats models;
  uint64_t pinned_bytes = 0;  // of model files that are kept
};

// Pays for the memory of model files that are kept.
inline constexpr std::string_view kOperator = "operator";

// A tier of artifacts below memory.
struct ArtifactDisk {
  std::shared_ptr<DiskCache> cache;  // Null: there is none.
  std::vector<std::string> model_folders{};
  // This model file is loaded when it is found, and kept; called by a thread of the store's.
  std::function<bool(const std::string& path)> pins{};
  ModelFiles::OnFile on_model_file{};
  // It was loaded, but for so many of its tensors.
  std::function<void(const std::string& path, size_t missing)> on_pinned{};
  // Where to read an artifact to that this tenant wants. Called by a thread of the store's.
  std::function<Result<std::shared_ptr<Buffer>>(uint64_t bytes, std::string_view tenant)> stage;
};

class ArtifactStore {
 public:
  ArtifactStore(const ArtifactKey& key, uint64_t unused_bytes_max);
  // The key is the disk cache's, if there is one, else a random one.
  ArtifactStore(const ArtifactDisk& disk, uint64_t unused_bytes_max);
  // Waits for the hash that is being computed and the file that is read or written; what waits to
  // be written is not.
  ~ArtifactStore();
  ArtifactStore(const ArtifactStore&) = delete;
  ArtifactStore& operator=(const ArtifactStore&) = delete;

  [[nodiscard]] const ArtifactKey& key() const { return key_; }

  // The bytes of that name and length, or null.
  std::shared_ptr<Buffer> find(const ArtifactName& name, uint64_t bytes);
  // The same, for a client that will not send them if they are here.
  std::shared_ptr<Buffer> offer(const ArtifactName& name, uint64_t bytes);

  using Wanted = WantedArtifact;
  // It is on disk, in a model file, or being verified. Never waits.
  [[nodiscard]] bool is_coming(const Wanted& wanted) const;
  // Waits for them and loads them, if they are as they should be; then `done` runs on a thread of
  // the store's, in the order of these calls.
  using Load = ArtifactLoad;
  void load(Load load);

  // Content that was uploaded; it is used through what comes back. `done(good)` runs on the store's
  // thread when the hash is known.
  using OnVerified = std::function<void(bool good)>;
  std::shared_ptr<Buffer> add(const ArtifactName& name, std::shared_ptr<Buffer> content,
                              OnVerified done);

  // Lets go of unused artifacts until that many bytes are free or none is left, then of what waits
  // to be written; returns the bytes. 0: there was nothing to let go of.
  uint64_t evict(uint64_t bytes);

  // Looks through the folders of model files again.
  void look_again() { models_.look_again(); }

  [[nodiscard]] ArtifactStats stats() const;
  // Waits until everything added so far is verified and written, and all is loaded (tests).
  void settle();

 private:
  class Shelf;
  struct Item;
  struct Check {
    std::shared_ptr<Item> item;
    std::shared_ptr<Buffer> content;  // As a user has it: it is in use until it is checked.
    OnVerified done;
  };
  ArtifactStore(const ArtifactKey& key, ArtifactDisk disk, uint64_t unused_bytes_max);

  void verify_main();
  void verify(Check check);
  void write(const Check& check);
  [[nodiscard]] bool writes_first() const REQUIRES(mutex_);
  void wait_until_verified(const ArtifactName& name);
  void found_model(const std::string& path, const Result<std::vector<Wanted>>& tensors);
  bool read(const Wanted& wanted, std::span<std::byte> to);
  std::shared_ptr<Buffer> load_one(const Wanted& wanted, const std::string& tenant);
  Result<std::shared_ptr<Buffer>> stage(uint64_t bytes, const std::string& tenant);
  void tell_if_settled() REQUIRES(mutex_);

  const ArtifactKey key_;
  const ArtifactDisk disk_;
  const std::shared_ptr<Shelf> shelf_;

  mutable Mutex mutex_;
  std::condition_variable_any wanted_;
  std::condition_variable_any settled_;
  std::condition_variable_any verified_;
  std::deque<Check> checks_ GUARDED_BY(mutex_);
  // Of checks_ and of the one that is being hashed.
  std::unordered_multiset<ArtifactName, ArtifactNameHash> verifying_ GUARDED_BY(mutex_);
  std::deque<Check> writes_ GUARDED_BY(mutex_);  // Verified, and not on disk.
  uint64_t write_bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t unwritten_bytes_ GUARDED_BY(mutex_) = 0;
  bool checking_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::unordered_map<std::string, std::vector<std::shared_ptr<Buffer>>> pinned_ GUARDED_BY(mutex_);
  std::thread verifier_;  // Last: they use all of the above.
  LoadQueue loads_;
  ModelFiles models_;
};

}  // namespace djinn::server
