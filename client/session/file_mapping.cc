// SPDX-License-Identifier: Apache-2.0
#include "client/session/file_mapping.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <vector>

namespace djinn::client {
namespace {

struct Mapping {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t offset = 0;
  uint64_t inode = 0;
  bool shared = false;
  std::string path;
};

// The mapping that holds all of [begin, end), if it is read-only and of a file.
std::optional<Mapping> search(uint64_t begin, uint64_t end) {
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) {
    Mapping mapping;
    char rights[8] = {};
    int path_at = 0;
    const int fields = std::sscanf(
        line.c_str(), "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %" SCNu64 " %n", &mapping.begin,
        &mapping.end, rights, &mapping.offset, &mapping.inode, &path_at);
    if (fields < 5 || begin < mapping.begin || begin >= mapping.end) continue;
    const bool read_only = rights[0] == 'r' && rights[1] == '-';
    if (!read_only || end > mapping.end || mapping.inode == 0 || path_at <= 0) return std::nullopt;
    mapping.shared = rights[3] == 's';
    mapping.path = line.substr(static_cast<size_t>(path_at));
    return mapping;
  }
  return std::nullopt;
}

}  // namespace

std::optional<FileRange> find_file_range(std::span<const std::byte> memory) {
  const auto begin = reinterpret_cast<uint64_t>(memory.data());
  const uint64_t end = begin + memory.size();
  // The file itself is asked each time: a mapping may be gone and another in its place.
  const auto mapping = search(begin, end);
  if (!mapping) return std::nullopt;
  struct stat file {};
  if (stat(mapping->path.c_str(), &file) != 0 || file.st_ino != mapping->inode) {
    return std::nullopt;
  }
  return FileRange{.path = mapping->path,
                   .offset = mapping->offset + (begin - mapping->begin),
                   .length = memory.size(),
                   .file_bytes = static_cast<uint64_t>(file.st_size),
                   .inode = mapping->inode,
                   .modified_ns = file.st_mtim.tv_sec * 1'000'000'000L + file.st_mtim.tv_nsec,
                   .shared = mapping->shared};
}

void forget_pages(std::span<const std::byte> memory) {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(memory.data()) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(memory.data()) + memory.size();
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the page around an address
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace djinn::client
