// SPDX-License-Identifier: Apache-2.0
// Open file: a descriptor that closes itself, and reads that end early only when the file does.
// Threading: reads may come from any thread.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace djinn::server {

class OpenFile {
 public:
  explicit OpenFile(int fd) : fd_(fd) {}
  ~OpenFile() { close(); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }
  int close() { return fd_ < 0 ? 0 : ::close(std::exchange(fd_, -1)); }

  // False: the file ends before that, or cannot be read (errno).
  [[nodiscard]] bool read_all(uint64_t offset_bytes, std::span<std::byte> to) const {
    while (!to.empty()) {
      const ssize_t got = pread(fd_, to.data(), to.size(), static_cast<off_t>(offset_bytes));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      offset_bytes += static_cast<uint64_t>(got);
      to = to.subspan(static_cast<size_t>(got));
    }
    return true;
  }

 private:
  int fd_;
};

}  // namespace djinn::server
