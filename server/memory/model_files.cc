// SPDX-License-Identifier: Apache-2.0
#include "server/memory/model_files.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "serialization/base/limits.h"
#include "serialization/files/safetensors.h"
#include "server/memory/open_file.h"

namespace djinn::server {
namespace {

namespace fs = std::filesystem;

constexpr int kNice = 10;  // Whoever computes goes first.
constexpr uint64_t kPartBytes = uint64_t{4} << 20;
constexpr std::string_view kSuffix = ".safetensors";

Error cannot(const std::string& what) {
  return {ErrorCode::kFailed,
          what + ": " + std::error_code(errno, std::generic_category()).message()};
}

// No pipe is waited for.
int open_to_read(const std::string& path) {
  return ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

// The regular files of that suffix, below the folder. What cannot be looked into has none.
std::vector<std::string> files_below(const std::string& folder) {
  std::vector<std::string> out;
  std::error_code error;
  auto at = fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied,
                                             error);
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    std::error_code gone;
    if (at->path().native().ends_with(kSuffix) && at->is_regular_file(gone)) {
      out.push_back(at->path().native());
    }
  }
  return out;
}

Result<std::vector<files::SafetensorsEntry>> read_head(const OpenFile& file, uint64_t bytes) {
  std::vector<std::byte> head(std::min<uint64_t>(bytes, files::kSafetensorsLengthBytes));
  if (!file.read_all(0, head)) return cannot("cannot be read");
  DJINN_TRY(const uint64_t head_bytes, files::safetensors_head_bytes(head, bytes));
  head.resize(head_bytes);
  if (!file.read_all(0, head)) return cannot("cannot be read");
  return files::read_safetensors_head(head, bytes);
}

}  // namespace

ModelFiles::ModelFiles(const ArtifactKey& key, std::vector<std::string> folders, OnFile on_file)
    : key_(key), folders_(std::move(folders)), on_file_(std::move(on_file)) {
  if (folders_.empty()) return;
  thread_ = std::thread([this] { thread_main(); });
  pthread_setname_np(thread_.native_handle(), "djinn-models");
}

ModelFiles::~ModelFiles() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    wanted_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

Result<> ModelFiles::check(const std::string& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return Error{ErrorCode::kNotFound, folder + (error ? ": " + error.message() : " is no folder")};
  }
  const auto first = fs::directory_iterator(folder, error);
  if (error) return Error{ErrorCode::kInvalid, folder + ": " + error.message()};
  return Unit{};
}

void ModelFiles::look_again() {
  const MutexLock lock(mutex_);
  look_ = true;
  wanted_.notify_all();
}

bool ModelFiles::has(const ArtifactName& name, uint64_t bytes) const {
  const MutexLock lock(mutex_);
  const auto at = places_.find(name);
  return at != places_.end() && at->second.bytes == bytes;
}

bool ModelFiles::read(const ArtifactName& name, std::span<std::byte> to) {
  Place place;
  {
    const MutexLock lock(mutex_);
    const auto at = places_.find(name);
    if (at == places_.end() || at->second.bytes != to.size()) return false;
    place = at->second;
  }
  const OpenFile file(open_to_read(place.path));
  const bool good =
      file.is_open() && file.read_all(place.offset_bytes, to) && artifact_name(key_, to) == name;
  const MutexLock lock(mutex_);
  if (good) {
    ++stats_.hits;
    stats_.bytes_read += to.size();
  } else {
    ++stats_.changed;
    places_.erase(name);  // Until the file is looked at again.
  }
  return good;
}

ModelFilesStats ModelFiles::stats() const {
  const MutexLock lock(mutex_);
  ModelFilesStats out = stats_;
  for (const auto& [path, file] : files_) {
    if (!file.tensors.empty()) ++out.files;
    out.tensors += file.tensors.size();
    out.bytes += file.bytes;
  }
  return out;
}

void ModelFiles::settle() {
  const MutexLock lock(mutex_);
  while (!folders_.empty() && (look_ || looking_)) settled_.wait(mutex_);
}

bool ModelFiles::stopping() const {
  const MutexLock lock(mutex_);
  return stopping_;
}

// -- the thread

void ModelFiles::thread_main() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
  while (true) {
    {
      const MutexLock lock(mutex_);
      looking_ = false;
      if (!look_) settled_.notify_all();
      while (!stopping_ && !look_) wanted_.wait(mutex_);
      if (stopping_) return;
      look_ = false;
      looking_ = true;
    }
    look();
  }
}

void ModelFiles::look() {
  std::unordered_set<std::string> there;
  for (const std::string& folder : folders_) {
    for (std::string& path : files_below(folder)) {
      struct stat info {};
      if (stopping()) return;
      if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
      look_at(path, {.bytes = static_cast<uint64_t>(info.st_size),
                     .modified_ns = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec});
      there.insert(std::move(path));
    }
  }
  const MutexLock lock(mutex_);
  std::erase_if(files_, [&](const auto& entry) { return !there.contains(entry.first); });
  index();
}

void ModelFiles::index() {
  places_.clear();
  for (const auto& [path, file] : files_) {
    for (const Tensor& each : file.tensors) {
      places_.emplace(
          each.is.name,
          Place{.path = path, .offset_bytes = each.offset_bytes, .bytes = each.is.bytes});
    }
  }
}

void ModelFiles::look_at(const std::string& path, const Version& version) {
  {
    const MutexLock lock(mutex_);
    const auto at = files_.find(path);
    if (at != files_.end() && at->second.version == version) return;
  }
  auto hashed = hash(path, version);
  if (stopping()) return;
  std::vector<WantedArtifact> tensors;
  File file{.version = version, .tensors = {}};
  if (hashed) file.tensors = std::move(*hashed);
  for (const Tensor& each : file.tensors) {
    tensors.push_back(each.is);
    file.bytes += each.is.bytes;
  }
  {
    const MutexLock lock(mutex_);
    files_.insert_or_assign(path, std::move(file));
    index();
  }
  if (hashed) {
    on_file_(path, tensors);
  } else {
    on_file_(path, hashed.error());
  }
}

Result<std::vector<ModelFiles::Tensor>> ModelFiles::hash(const std::string& path,
                                                         const Version& version) {
  const OpenFile file(open_to_read(path));
  if (!file.is_open()) return cannot("cannot be opened");
  DJINN_TRY(const auto entries, read_head(file, version.bytes));
  std::vector<Tensor> out;
  std::vector<std::byte> part;
  for (const files::SafetensorsEntry& entry : entries) {
    if (entry.length_bytes < kArtifactBytesMin) continue;  // Nobody would ask for it.
    ArtifactNamer namer(key_);
    for (uint64_t done = 0; done < entry.length_bytes; done += part.size()) {
      if (stopping()) return out;
      part.resize(std::min(kPartBytes, entry.length_bytes - done));
      if (!file.read_all(entry.offset_bytes + done, part)) return cannot("cannot be read");
      namer.add(part);
    }
    out.push_back({.is = {.name = namer.name(), .bytes = entry.length_bytes},
                   .offset_bytes = entry.offset_bytes});
  }
  return out;
}

}  // namespace djinn::server
