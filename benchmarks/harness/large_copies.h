// SPDX-License-Identifier: Apache-2.0
// Large copies: calls of memcpy and memmove of 64 KiB and more, counted in this process and in
// processes it starts.
//
// libdjinn_large_copies.so stands in front of libc's functions (LD_PRELOAD). Its counters lie in a
// file that several processes map, named by DJINN_LARGE_COPIES; without that variable it only
// passes calls on. What a compiler inlined and what the kernel copies is not seen. Threading: any
// thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace djinn::benchmarks {

inline constexpr size_t kLargeCopyBytes = 64 << 10;

struct LargeCopyCounters {
  std::atomic<uint64_t> calls;
  std::atomic<uint64_t> bytes;
};

// Counters that somebody else made. Throws std::runtime_error if they are not there.
class LargeCopyView {
 public:
  explicit LargeCopyView(const std::string& file);
  ~LargeCopyView();
  LargeCopyView(const LargeCopyView&) = delete;
  LargeCopyView& operator=(const LargeCopyView&) = delete;

  [[nodiscard]] uint64_t calls() const { return counters_->calls; }
  [[nodiscard]] uint64_t bytes() const { return counters_->bytes; }

 private:
  LargeCopyCounters* counters_ = nullptr;
};

// Makes the file of counters and names it in the environment of processes to come. Ownership: the
// file is removed with the object.
class LargeCopies {
 public:
  // Throws std::runtime_error if the library is not where the build puts it.
  LargeCopies();
  ~LargeCopies();
  LargeCopies(const LargeCopies&) = delete;
  LargeCopies& operator=(const LargeCopies&) = delete;

  // Processes started from now on count, or do not.
  void preload(bool on) const;
  [[nodiscard]] const std::string& file() const { return file_; }

 private:
  std::string library_;
  std::string file_;
};

}  // namespace djinn::benchmarks
