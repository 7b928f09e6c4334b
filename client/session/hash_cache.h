// SPDX-License-Identifier: Apache-2.0
// Hash cache: SHA-256 of bytes, remembered beside the file they are mapped from.
//
// A file that was hashed once is not hashed again, by no process, as long as its size, inode and
// time of last change are the same. The hashes lie in `<file>.djinn-sha256`, or, where that cannot
// be written, in $XDG_CACHE_HOME/djinn (or ~/.cache/djinn). A damaged or foreign file there is
// ignored and replaced: the server verifies every hash before it shares bytes, so a wrong one harms
// only us. Threading: any thread, one lock.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>

#include "client/session/file_mapping.h"

namespace djinn::client {

using Sha256 = std::array<uint8_t, 32>;

[[nodiscard]] Sha256 sha256(std::span<const std::byte> bytes);
// HMAC-SHA256: an artifact's name under a trust domain's key.
[[nodiscard]] Sha256 artifact_name(std::span<const uint8_t> key, const Sha256& content);

class HashCache {
 public:
  static HashCache& instance();

  // The hash of mapped bytes: remembered, or computed (`computed` grows by their length).
  Sha256 of(const FileRange& range, std::span<const std::byte> bytes, uint64_t& computed);
  // Writes what is new. Called when a flush is sent, so that a model is one write.
  void save();

 private:
  struct File {
    FileRange identity;
    std::map<std::pair<uint64_t, uint64_t>, Sha256> ranges;  // {offset, length}
    bool changed = false;
  };

  File& file_of(const FileRange& range);
  static void load(File& file);
  static bool store(const File& file, const std::string& path);

  std::mutex mutex_;
  std::map<std::string, File> files_;
};

}  // namespace djinn::client
