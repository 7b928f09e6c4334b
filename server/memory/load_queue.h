// SPDX-License-Identifier: Apache-2.0
// Load queue: artifacts that somebody waits for, and the threads that fetch them from below memory.
//
// Why several threads: an artifact is read and then hashed, and while one is hashed the disk should
// be reading the next. Of one load many are fetched at a time; loads are answered in the order in
// which they came. What two loads want is fetched once, and found by the second.
// Ownership: owns its threads. Threading: any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "serialization/base/mutex.h"
#include "server/executor.h"
#include "server/memory/artifact_name.h"

namespace djinn::server {

struct WantedArtifact {
  ArtifactName name;
  uint64_t bytes = 0;
};

struct ArtifactLoad {
  std::vector<WantedArtifact> wanted;
  std::string tenant;  // who pays for the memory
  std::weak_ptr<const void> asker;
  // One buffer each, null for what is not there. Never called if `asker` has died by then.
  std::function<void(std::vector<std::shared_ptr<Buffer>> loaded)> done;
};

class LoadQueue {
 public:
  // Null: it is not there. Called by several threads, never twice at a time for the same name.
  using Fetch = std::function<std::shared_ptr<Buffer>(const WantedArtifact& wanted,
                                                      const std::string& tenant)>;
  LoadQueue(size_t threads, Fetch fetch);
  // Waits for what is being fetched; nobody else is answered.
  ~LoadQueue();
  LoadQueue(const LoadQueue&) = delete;
  LoadQueue& operator=(const LoadQueue&) = delete;

  void push(ArtifactLoad load);
  // Waits until all have been answered.
  void settle();

 private:
  struct Begun {
    ArtifactLoad load;
    std::vector<std::shared_ptr<Buffer>> loaded;
    size_t next = 0;   // of load.wanted: to be fetched by whoever is free
    size_t ended = 0;  // so many have been
  };
  struct Task {
    std::shared_ptr<Begun> of;
    size_t index = 0;
  };
  void thread_main();
  // Nothing: there is nothing to fetch now.
  [[nodiscard]] bool take(Task& task) REQUIRES(mutex_);
  // Answers the oldest loads, as far as they are complete; true: there was one, and the lock was
  // let go of meanwhile.
  bool answer() REQUIRES(mutex_);

  const Fetch fetch_;
  Mutex mutex_;
  std::condition_variable_any wanted_;
  std::condition_variable_any settled_;
  std::deque<std::shared_ptr<Begun>> loads_ GUARDED_BY(mutex_);
  std::unordered_set<ArtifactName, ArtifactNameHash> fetching_ GUARDED_BY(mutex_);
  bool answering_ GUARDED_BY(mutex_) = false;  // One thread does, so that order is kept.
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // Last: they use all of the above.
};

}  // namespace djinn::server
