// SPDX-License-Identifier: Apache-2.0
#include "server/memory/disk_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "serialization/base/limits.h"
#include "server/memory/open_file.h"

namespace djinn::server {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::string_view kSuffix = ".artifact";
constexpr std::string_view kUnfinished = ".new";
constexpr const char* kKeyFile = "key";
constexpr uint64_t kBlockBytes = 4096;  // What a file takes is a multiple of this.

// A file, little-endian:
//
//    0        8         12       16            24              56     64
//   +--------+---------+--------+-------------+---------------+------+---------
//   | magic  | version | zero   | length      | name          | zero | content
//   +--------+---------+--------+-------------+---------------+------+---------
struct FileHeader {
  std::array<char, 8> magic{'d', 'j', 'i', 'n', 'n', 'a', 'r', 't'};
  uint32_t version = 1;
  uint32_t zero = 0;
  uint64_t length_bytes = 0;
  ArtifactName name{};
  uint64_t zero_too = 0;
};
static_assert(sizeof(FileHeader) == 64 && offsetof(FileHeader, name) == 24);

Bytes bytes_of(const FileHeader& header) { return std::as_bytes(std::span(&header, 1)); }

// A name of ours may be a link, a pipe or a folder: no link is followed, and no pipe waited for.
int open_to_read(int folder, const char* file) {
  return openat(folder, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

bool write_all(int fd, Bytes from) {
  while (!from.empty()) {
    const ssize_t put = ::write(fd, from.data(), from.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    from = from.subspan(static_cast<size_t>(put));
  }
  return true;
}

std::string file_of(const ArtifactName& name) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string out;
  for (const uint8_t byte : name) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out.append(kSuffix);
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Nothing: the file is none of ours.
std::optional<ArtifactName> name_of(std::string_view file) {
  ArtifactName name;
  if (file.size() != 2 * name.size() + kSuffix.size() || !file.ends_with(kSuffix)) return {};
  for (size_t i = 0; i < name.size(); ++i) {
    const int high = digit_of(file[2 * i]);
    const int low = digit_of(file[2 * i + 1]);
    if (high < 0 || low < 0) return {};
    name[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return name;
}

bool is_unfinished(std::string_view file) {
  if (!file.ends_with(kUnfinished)) return false;
  file.remove_suffix(kUnfinished.size());
  return file == kKeyFile || name_of(file).has_value();
}

uint64_t file_bytes(uint64_t length_bytes) {
  return (sizeof(FileHeader) + length_bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

// The file is open, and begins as the artifact's must.
bool begins_right(const OpenFile& file, const ArtifactName& name, uint64_t& length_bytes) {
  struct stat info {};
  FileHeader header;
  if (fstat(file.fd(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
  if (!file.read_all(0, std::as_writable_bytes(std::span(&header, 1)))) return false;
  FileHeader right;
  right.name = name;
  right.length_bytes = static_cast<uint64_t>(info.st_size) - sizeof header;
  length_bytes = right.length_bytes;
  return std::ranges::equal(bytes_of(header), bytes_of(right));
}

int64_t wall_clock_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// What a file says it was modified at may be anything.
int64_t to_ns(const timespec& time) {
  const int64_t seconds_max = wall_clock_ns() / 1'000'000'000;
  return std::clamp<int64_t>(time.tv_sec, 0, seconds_max) * 1'000'000'000;
}

timespec to_timespec(int64_t ns) {
  return {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
}

}  // namespace

Error DiskCache::wrong(const std::string& what) const {
  return {ErrorCode::kInvalid, "cache-dir " + folder_ + ": " + what};
}

Error DiskCache::failed(const std::string& what) const {
  return {ErrorCode::kFailed, "cache-dir " + folder_ + ": " + what + ": " +
                                  std::error_code(errno, std::generic_category()).message()};
}

Result<std::unique_ptr<DiskCache>> DiskCache::open(const std::string& folder, uint64_t bytes_max) {
  const bool made = mkdir(folder.c_str(), 0700) == 0;
  const int error = errno;
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && !made && error != EEXIST) errno = error;
  std::unique_ptr<DiskCache> cache(new DiskCache(folder, fd, bytes_max));
  if (fd < 0) return cache->failed("it cannot be made or opened");
  DJINN_CHECK(cache->lock_folder());
  bool is_new = false;
  DJINN_CHECK(cache->load_key(is_new));
  DJINN_CHECK(cache->scan(/*keep=*/!is_new));
  return cache;
}

DiskCache::~DiskCache() {
  {
    const MutexLock lock(mutex_);
    for (const auto& [name, entry] : entries_) {
      if (!entry.touched) continue;
      const std::array<timespec, 2> times{timespec{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                                          to_timespec(entry.used_ns)};
      (void)utimensat(folder_fd_, file_of(name).c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
    }
  }
  if (folder_fd_ >= 0) close(folder_fd_);
}

Result<> DiskCache::lock_folder() {
  if (flock(folder_fd_, LOCK_EX | LOCK_NB) == 0) return Unit{};
  if (errno == EWOULDBLOCK) return wrong("another server uses it");
  return failed("it cannot be locked");
}

Result<> DiskCache::load_key(bool& is_new) {
  const OpenFile file(open_to_read(folder_fd_, kKeyFile));
  is_new = !file.is_open() && errno == ENOENT;
  if (is_new) return make_key();
  // A link cannot be opened: it was asked not to be followed.
  if (!file.is_open() && errno == ELOOP) return wrong("its file \"key\" is no regular file");
  if (!file.is_open()) return failed("its file \"key\" cannot be read");
  struct stat info {};
  if (fstat(file.fd(), &info) != 0) return failed("its file \"key\" cannot be read");
  if (!S_ISREG(info.st_mode)) return wrong("its file \"key\" is no regular file");
  if (info.st_uid != geteuid()) return wrong("its file \"key\" belongs to another user");
  if ((info.st_mode & 077) != 0) {
    return wrong("its file \"key\" is open to other users (it must have mode 0600)");
  }
  if (static_cast<uint64_t>(info.st_size) != key_.size() ||
      !file.read_all(0, std::as_writable_bytes(std::span(key_)))) {
    return wrong("its file \"key\" has not " + std::to_string(key_.size()) + " bytes");
  }
  return Unit{};
}

Result<> DiskCache::make_key() {
  key_ = random_artifact_key();
  return write_file(kKeyFile, {}, std::as_bytes(std::span(key_)));
}

// `keep` is false if the key is new: nothing here was named with it.
Result<> DiskCache::scan(bool keep) {
  std::error_code error;
  std::filesystem::directory_iterator at(folder_, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    const std::string file = at->path().filename();
    if (is_unfinished(file)) {
      (void)unlinkat(folder_fd_, file.c_str(), 0);
    } else if (const auto name = name_of(file)) {
      scan_file(file, *name, keep);
    }
  }
  if (error) return wrong("it cannot be listed: " + error.message());
  make_room(0);
  return Unit{};
}

void DiskCache::scan_file(const std::string& file, const ArtifactName& name, bool keep) {
  struct stat info {};
  if (fstatat(folder_fd_, file.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return;
  if (S_ISDIR(info.st_mode)) return;
  const OpenFile opened(open_to_read(folder_fd_, file.c_str()));
  Entry entry{.used_ns = to_ns(info.st_mtim)};
  if (!keep || !opened.is_open() || !begins_right(opened, name, entry.length_bytes)) {
    discard_corrupt(name);
    return;
  }
  const MutexLock lock(mutex_);
  insert(name, entry);
}

bool DiskCache::has(const ArtifactName& name, uint64_t length_bytes) const {
  const MutexLock lock(mutex_);
  const auto at = entries_.find(name);
  return at != entries_.end() && at->second.length_bytes == length_bytes;
}

void DiskCache::touch(const ArtifactName& name) {
  const MutexLock lock(mutex_);
  const auto at = entries_.find(name);
  if (at == entries_.end()) return;
  at->second.used_ns = wall_clock_ns();
  at->second.touched = true;
}

bool DiskCache::read(const ArtifactName& name, std::span<std::byte> to) {
  if (!has(name, to.size())) return false;
  const OpenFile file(open_to_read(folder_fd_, file_of(name).c_str()));
  if (!file.is_open() && errno != ENOENT && errno != ELOOP) return false;  // Not the file's fault.
  if (!file.is_open() && errno == ENOENT) {
    const MutexLock lock(mutex_);
    erase(name);
    return false;
  }
  uint64_t length_bytes = 0;
  if (!file.is_open() || !begins_right(file, name, length_bytes) || length_bytes != to.size() ||
      !file.read_all(sizeof(FileHeader), to) || artifact_name(key_, to) != name) {
    discard_corrupt(name);
    return false;
  }
  touch(name);
  const MutexLock lock(mutex_);
  ++stats_.hits;
  stats_.bytes_read += to.size();
  return true;
}

// The file goes before the entry: while there is one, nobody writes the file anew.
void DiskCache::discard_corrupt(const ArtifactName& name) {
  (void)unlinkat(folder_fd_, file_of(name).c_str(), 0);
  const MutexLock lock(mutex_);
  ++stats_.corrupt_files;
  erase(name);
}

Result<> DiskCache::write(const ArtifactName& name, std::span<const std::byte> content) {
  const MutexLock one_at_a_time(writing_);
  if (has(name, content.size())) {
    touch(name);
    return Unit{};
  }
  const uint64_t bytes = file_bytes(content.size());
  if (bytes > bytes_max_) return Unit{};
  make_room(bytes);
  FileHeader header;
  header.length_bytes = content.size();
  header.name = name;
  auto written = write_file(file_of(name), bytes_of(header), content);
  const MutexLock lock(mutex_);
  if (!written) {
    ++stats_.failed_writes;
    return written;
  }
  stats_.bytes_written += content.size();
  insert(name, {.length_bytes = content.size(), .used_ns = wall_clock_ns()});
  return Unit{};
}

// The folder itself is not synced: a file that a crash forgets is uploaded once more.
Result<> DiskCache::write_file(const std::string& file, Bytes header, Bytes content) const {
  const std::string unfinished = file + std::string(kUnfinished);
  (void)unlinkat(folder_fd_, unfinished.c_str(), 0);
  OpenFile out(openat(folder_fd_, unfinished.c_str(),
                      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  const bool good = out.is_open() && write_all(out.fd(), header) && write_all(out.fd(), content) &&
                    fsync(out.fd()) == 0 && out.close() == 0 &&
                    renameat(folder_fd_, unfinished.c_str(), folder_fd_, file.c_str()) == 0;
  if (good) return Unit{};
  const Error error = failed("its file \"" + file + "\" cannot be written");
  (void)unlinkat(folder_fd_, unfinished.c_str(), 0);
  return error;
}

void DiskCache::make_room(uint64_t bytes) {
  while (true) {
    std::optional<ArtifactName> victim;
    {
      const MutexLock lock(mutex_);
      if (stats_.bytes + bytes <= bytes_max_ && entries_.size() < kDiskArtifactsMax) return;
      const int64_t now_ns = wall_clock_ns();
      double most = -1;
      for (const auto& [name, entry] : entries_) {
        const int64_t age_ns = std::max<int64_t>(now_ns - entry.used_ns, 0) + 1;
        const double cost =
            static_cast<double>(age_ns) * static_cast<double>(file_bytes(entry.length_bytes));
        if (cost > most) victim = name;
        most = std::max(most, cost);
      }
    }
    if (!victim) return;
    (void)unlinkat(folder_fd_, file_of(*victim).c_str(), 0);
    const MutexLock lock(mutex_);
    const uint64_t before = stats_.bytes;
    erase(*victim);
    stats_.evicted_bytes += before - stats_.bytes;
  }
}

void DiskCache::insert(const ArtifactName& name, const Entry& entry) {
  erase(name);
  entries_.emplace(name, entry);
  ++stats_.artifacts;
  stats_.bytes += file_bytes(entry.length_bytes);
}

void DiskCache::erase(const ArtifactName& name) {
  const auto at = entries_.find(name);
  if (at == entries_.end()) return;
  --stats_.artifacts;
  stats_.bytes -= file_bytes(at->second.length_bytes);
  entries_.erase(at);
}

DiskStats DiskCache::stats() const {
  const MutexLock lock(mutex_);
  return stats_;
}

}  // namespace djinn::server
