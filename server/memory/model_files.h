// SPDX-License-Identifier: Apache-2.0
// Model files: the tensors of .safetensors files that the operator has on this machine, by the
// names of their content. A client that has the same model sends none of it.
//
// Folders are looked through by a thread of low priority, and each file is hashed once, as long as
// its size and time stay. What is read is hashed again, so that a file that has changed since gives
// nobody wrong weights. Files are the operator's: nothing is written, none is kept open, and they
// may come, go and change at any time. Links to files are followed, links to folders are not.
// Ownership: owns its thread. Threading: any thread; `read` blocks.
#pragma once

#include <condition_variable>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "serialization/base/mutex.h"
#include "serialization/base/result.h"
#include "server/memory/artifact_name.h"
#include "server/memory/load_queue.h"

namespace djinn::server {

struct ModelFilesStats {
  uint64_t files = 0;  // that were read, and what is in them
  uint64_t tensors = 0;
  uint64_t bytes = 0;
  uint64_t hits = 0;  // tensors read for a client, and right
  uint64_t bytes_read = 0;
  uint64_t changed = 0;  // tensors that were others by then
};

class ModelFiles {
 public:
  // What happened to one file: its tensors, or why there are none. Called by the thread.
  using OnFile = std::function<void(const std::string& path,
                                    const Result<std::vector<WantedArtifact>>& tensors)>;
  // Begins to look through the folders. None: there is no thread.
  ModelFiles(const ArtifactKey& key, std::vector<std::string> folders, OnFile on_file);
  // Within some milliseconds, also while a file is being hashed.
  ~ModelFiles();
  ModelFiles(const ModelFiles&) = delete;
  ModelFiles& operator=(const ModelFiles&) = delete;

  // It can be looked through. An Error says why not.
  static Result<> check(const std::string& folder);

  // Looks again: for what is new, has changed or is gone.
  void look_again();

  // It was there when it was last looked at; whether it still is, only `read` knows.
  [[nodiscard]] bool has(const ArtifactName& name, uint64_t bytes) const;
  // False: it is not there, or has changed. `to` is as long as the tensor, and holds garbage then.
  bool read(const ArtifactName& name, std::span<std::byte> to);

  [[nodiscard]] ModelFilesStats stats() const;
  // Waits until all was looked through that is there now (tests).
  void settle();

 private:
  // A file is the same as long as these are.
  struct Version {
    uint64_t bytes = 0;
    int64_t modified_ns = 0;
    bool operator==(const Version&) const = default;
  };
  struct Tensor {
    WantedArtifact is;
    uint64_t offset_bytes = 0;
  };
  struct File {
    Version version;
    std::vector<Tensor> tensors;  // None: it cannot be read.
    uint64_t bytes = 0;           // of them
  };
  struct Place {
    std::string path;
    uint64_t offset_bytes = 0;
    uint64_t bytes = 0;
  };

  void thread_main();
  void look();
  void look_at(const std::string& path, const Version& version);
  [[nodiscard]] Result<std::vector<Tensor>> hash(const std::string& path, const Version& version);
  void index() REQUIRES(mutex_);
  [[nodiscard]] bool stopping() const;

  const ArtifactKey key_;
  const std::vector<std::string> folders_;
  const OnFile on_file_;

  mutable Mutex mutex_;
  std::condition_variable_any wanted_;
  std::condition_variable_any settled_;
  bool look_ GUARDED_BY(mutex_) = true;  // There may be something new.
  bool looking_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::unordered_map<std::string, File> files_ GUARDED_BY(mutex_);  // By their paths.
  // Where the files' tensors are, and were: `read` finds out. Of several places, one.
  std::unordered_map<ArtifactName, Place, ArtifactNameHash> places_ GUARDED_BY(mutex_);
  ModelFilesStats stats_ GUARDED_BY(mutex_);
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace djinn::server
