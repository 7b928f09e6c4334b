// SPDX-License-Identifier: Apache-2.0
// Disk cache: artifacts in a folder, one file each, that are still there when the server starts
// again.
//
// A disk is trusted no more than a client: what is read is hashed again, and a file that is not
// what its name says is deleted and was never there. A file appears whole or not at all (it is
// written beside its place, synced, and renamed), and what an interrupted write left goes at the
// next start. Names are keyed, so the key lies in the folder too, readable by its owner only.
// Why no database: the folder of files is one already, and any of them may be deleted at any time.
// What is too much goes by what it costs to keep: the largest product of size and age first.
//
//   key                    the artifact key, 32 bytes, mode 0600
//   <name in hex>.artifact a header and the content; modified when it was last used
//   *.artifact.new, key.new  unfinished
//
// Files of other names are left alone. One server per folder: it holds a lock on it.
// Ownership: owns the folder's lock, not the folder. Threading: any thread; reads and writes block,
// the rest does not touch the disk.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "serialization/base/mutex.h"
#include "serialization/base/result.h"
#include "server/memory/artifact_name.h"

namespace djinn::server {

struct DiskStats {
  uint64_t artifacts = 0;  // there now,
  uint64_t bytes = 0;      // and what their files take
  uint64_t hits = 0;       // read, and right
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t corrupt_files = 0;  // not what they should have been, and deleted
  uint64_t evicted_bytes = 0;
  uint64_t failed_writes = 0;
};

class DiskCache {
 public:
  // Makes the folder if it is not there. An Error says in one sentence why it cannot be used.
  static Result<std::unique_ptr<DiskCache>> open(const std::string& folder, uint64_t bytes_max);
  // Remembers in the folder what was used when.
  ~DiskCache();
  DiskCache(const DiskCache&) = delete;
  DiskCache& operator=(const DiskCache&) = delete;

  // Of those who made the folder's artifacts.
  [[nodiscard]] const ArtifactKey& key() const { return key_; }

  // It was there when the folder was last looked at; whether it is good, only `read` knows.
  [[nodiscard]] bool has(const ArtifactName& name, uint64_t length_bytes) const;
  // It was used, though not from here.
  void touch(const ArtifactName& name);
  // False: it is not there, or not what its name says. `to` is as long as the artifact, and holds
  // garbage then.
  bool read(const ArtifactName& name, std::span<std::byte> to);
  // The caller has verified the content. What is larger than the whole cache is not kept.
  Result<> write(const ArtifactName& name, std::span<const std::byte> content);

  [[nodiscard]] DiskStats stats() const;

 private:
  struct Entry {
    uint64_t length_bytes = 0;
    int64_t used_ns = 0;   // When, by the clock on the wall: files keep it across restarts.
    bool touched = false;  // The file does not know yet.
  };
  DiskCache(std::string folder, int folder_fd, uint64_t bytes_max)
      : folder_(std::move(folder)), bytes_max_(bytes_max), folder_fd_(folder_fd) {}

  [[nodiscard]] Error wrong(const std::string& what) const;
  [[nodiscard]] Error failed(const std::string& what) const;  // And why: errno.
  Result<> lock_folder();
  Result<> load_key(bool& is_new);
  Result<> make_key();
  Result<> scan(bool keep);
  void scan_file(const std::string& file, const ArtifactName& name, bool keep);
  Result<> write_file(const std::string& file, std::span<const std::byte> header,
                      std::span<const std::byte> content) const;
  void make_room(uint64_t bytes);
  void discard_corrupt(const ArtifactName& name);
  void insert(const ArtifactName& name, const Entry& entry) REQUIRES(mutex_);
  void erase(const ArtifactName& name) REQUIRES(mutex_);

  const std::string folder_;
  const uint64_t bytes_max_;
  const int folder_fd_;
  ArtifactKey key_{};

  Mutex writing_;  // One file at a time. Taken before mutex_.
  mutable Mutex mutex_;
  std::unordered_map<ArtifactName, Entry, ArtifactNameHash> entries_ GUARDED_BY(mutex_);
  DiskStats stats_ GUARDED_BY(mutex_);
};

}  // namespace djinn::server
