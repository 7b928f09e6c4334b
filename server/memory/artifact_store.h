// SPDX-License-Identifier: Apache-2.0
// Artifact store: immutable bytes under the name of their content, one copy for all who use them.
//
// The first who uploads them uses them at once; others see them when a thread of low priority has
// hashed them and the name is right. Why not before: else one tenant could give others bytes that
// are not what their name says. What nobody uses stays for the next one, least recently used first
// out, up to a bound.
// Ownership: users share buffers; a buffer dies when it is neither used nor kept here. Users may
// outlive the store. Threading: any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <thread>

#include "serialization/base/mutex.h"
#include "server/executor.h"
#include "server/memory/artifact_name.h"

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
};

class ArtifactStore {
 public:
  ArtifactStore(const ArtifactKey& key, uint64_t unused_bytes_max);
  // Waits for the hash that is being computed.
  ~ArtifactStore();
  ArtifactStore(const ArtifactStore&) = delete;
  ArtifactStore& operator=(const ArtifactStore&) = delete;

  [[nodiscard]] const ArtifactKey& key() const { return key_; }

  // The bytes of that name and length, or null.
  std::shared_ptr<Buffer> find(const ArtifactName& name, uint64_t bytes);
  // The same, for a client that will not send them if they are here.
  std::shared_ptr<Buffer> offer(const ArtifactName& name, uint64_t bytes);

  // Content that was uploaded; it is used through what comes back. `done(good)` runs on the store's
  // thread when the hash is known.
  using OnVerified = std::function<void(bool good)>;
  std::shared_ptr<Buffer> add(const ArtifactName& name, std::shared_ptr<Buffer> content,
                              OnVerified done);

  // Lets go of unused artifacts until that many bytes are free or none is left; returns the bytes.
  uint64_t evict(uint64_t bytes);

  [[nodiscard]] ArtifactStats stats() const;
  // Waits until everything added so far is verified (tests).
  void settle();

 private:
  class Shelf;
  struct Item;
  struct Check {
    std::shared_ptr<Item> item;
    std::shared_ptr<Buffer> content;  // As a user has it: it is in use until it is checked.
    OnVerified done;
  };
  void verify_main();

  const ArtifactKey key_;
  const std::shared_ptr<Shelf> shelf_;

  mutable Mutex mutex_;
  std::condition_variable_any wanted_;
  std::condition_variable_any settled_;
  std::deque<Check> checks_ GUARDED_BY(mutex_);
  bool checking_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread verifier_;  // Last: it uses all of the above.
};

}  // namespace djinn::server
