// SPDX-License-Identifier: Apache-2.0
// File mapping: is this memory a read-only mapping of a file, and of which bytes of it?
//
// Why it matters: such bytes need no snapshot (the app cannot write them) and their hash can be
// kept beside the file. Who reads a model through a mapping once need not keep it in memory: a page
// of a shared mapping is let go and read again for nothing but time, so that a process can send a
// model that it could not hold. Source: /proc/self/maps (proc(5)). Threading: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace djinn::client {

struct FileRange {
  std::string path;
  uint64_t offset = 0;  // of the first byte in the file
  uint64_t length = 0;
  uint64_t file_bytes = 0;  // size, inode and time of last change, when this was asked
  uint64_t inode = 0;
  int64_t modified_ns = 0;
  bool shared = false;  // Mapped with MAP_SHARED: its pages may be forgotten.
};

// Nothing if the memory is writable, not one mapping, not of a file, or the file is gone or
// another.
[[nodiscard]] std::optional<FileRange> find_file_range(std::span<const std::byte> memory);

// The pages of these bytes leave this process' memory; whoever reads them gets them from the file
// again. Only for shared mappings: a page of a private one may have been written before the mapping
// became read-only, and would be lost.
void forget_pages(std::span<const std::byte> memory);

}  // namespace djinn::client
