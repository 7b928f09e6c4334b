// SPDX-License-Identifier: Apache-2.0
#include "client/session/hash_cache.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "serialization/base/limits.h"

namespace djinn::client {
namespace {

constexpr const char* kMagic = "djinn-sha256 1";

std::string hex(const Sha256& hash) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const uint8_t byte : hash) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

bool from_hex(const std::string& text, Sha256& out) {
  if (text.size() != 2 * out.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return false;
    out[i / 2] = static_cast<uint8_t>(i % 2 == 0 ? digit << 4 : out[i / 2] | digit);
  }
  return true;
}

std::string beside(const FileRange& file) { return file.path + ".djinn-sha256"; }

// Where hashes of files in read-only folders go; empty if there is no home either.
std::string in_cache(const FileRange& file) {
  const char* const cache = std::getenv("XDG_CACHE_HOME");  // NOLINT(concurrency-mt-unsafe)
  const char* const home = std::getenv("HOME");             // NOLINT(concurrency-mt-unsafe)
  std::string folder;
  if (cache != nullptr && *cache != '\0') {
    folder = cache;
  } else if (home != nullptr && *home != '\0') {
    folder = std::string(home) + "/.cache";
  } else {
    return {};
  }
  const std::string& path = file.path;
  const auto bytes = std::as_bytes(std::span(path.data(), path.size()));
  return folder + "/djinn/" + hex(sha256(bytes)) + ".djinn-sha256";
}

// The same as sha256, with no more of the file in memory than a window of it.
Sha256 sha256_by_windows(std::span<const std::byte> mapped) {
  Sha256 out{};
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  while (!mapped.empty()) {
    const auto window = mapped.first(std::min<size_t>(mapped.size(), kFileWindowBytes));
    EVP_DigestUpdate(context.get(), window.data(), window.size());
    forget_pages(window);
    mapped = mapped.subspan(window.size());
  }
  EVP_DigestFinal_ex(context.get(), out.data(), nullptr);
  return out;
}

}  // namespace

Sha256 sha256(std::span<const std::byte> bytes) {
  Sha256 out{};
  EVP_Digest(bytes.data(), bytes.size(), out.data(), nullptr, EVP_sha256(), nullptr);
  return out;
}

Sha256 artifact_name(std::span<const uint8_t> key, const Sha256& content) {
  Sha256 out{};
  unsigned length = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), content.data(), content.size(),
       out.data(), &length);
  return out;
}

HashCache& HashCache::instance() {
  static auto* const cache = new HashCache;  // Used until the process ends.
  return *cache;
}

HashCache::File& HashCache::file_of(const FileRange& range) {
  File& file = files_[range.path];
  const bool same = file.identity.file_bytes == range.file_bytes &&
                    file.identity.inode == range.inode &&
                    file.identity.modified_ns == range.modified_ns;
  if (!same) {
    file = File();
    file.identity = range;
    load(file);
  }
  return file;
}

void HashCache::load(File& file) {
  for (const std::string& path : {beside(file.identity), in_cache(file.identity)}) {
    std::ifstream in(path);
    std::string line;
    if (!in || !std::getline(in, line) || line != kMagic || !std::getline(in, line)) continue;
    uint64_t bytes = 0;
    uint64_t inode = 0;
    int64_t modified = 0;
    if (!(std::istringstream(line) >> bytes >> inode >> modified)) continue;
    if (bytes != file.identity.file_bytes || inode != file.identity.inode ||
        modified != file.identity.modified_ns) {
      continue;
    }
    while (std::getline(in, line)) {
      std::istringstream fields(line);
      uint64_t offset = 0;
      uint64_t length = 0;
      std::string text;
      Sha256 hash{};
      if (fields >> offset >> length >> text && from_hex(text, hash)) {
        file.ranges[{offset, length}] = hash;
      }
    }
    return;
  }
}

Sha256 HashCache::of(const FileRange& range, std::span<const std::byte> bytes, uint64_t& computed) {
  const std::lock_guard lock(mutex_);
  File& file = file_of(range);
  const auto [place, is_new] = file.ranges.try_emplace({range.offset, range.length});
  if (is_new) {
    place->second = range.shared ? sha256_by_windows(bytes) : sha256(bytes);
    computed += bytes.size();
    file.changed = true;
  }
  return place->second;
}

bool HashCache::store(const File& file, const std::string& path) {
  if (path.empty()) return false;
  const std::string draft = path + "." + std::to_string(getpid());
  {
    std::ofstream out(draft, std::ios::trunc);
    if (!out) return false;
    out << kMagic << '\n'
        << file.identity.file_bytes << ' ' << file.identity.inode << ' '
        << file.identity.modified_ns << '\n';
    for (const auto& [range, hash] : file.ranges) {
      out << range.first << ' ' << range.second << ' ' << hex(hash) << '\n';
    }
    if (!out.flush()) return false;
  }
  return std::rename(draft.c_str(), path.c_str()) == 0;
}

void HashCache::save() {
  const std::lock_guard lock(mutex_);
  for (auto& [path, file] : files_) {
    if (!file.changed) continue;
    file.changed = false;
    if (store(file, beside(file.identity))) continue;
    const std::string other = in_cache(file.identity);
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(other).parent_path(), ignored);
    (void)store(file, other);  // Without a place to keep it, it is computed again next time.
  }
}

}  // namespace djinn::client
