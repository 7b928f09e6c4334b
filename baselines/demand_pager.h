// SPDX-License-Identifier: Apache-2.0
// Demand pager: a range of memory of which only so many bytes are resident; what is missing is
// copied in when it is touched, and what came first leaves.
//
// It stands for a GPU's managed memory (UVM) on a machine without one: real faults by
// userfaultfd(2), a handler on a thread of its own, pages of a granularity to be chosen. First in,
// first out is what a driver that learns of faults, and of nothing else, can do. The range is read
// only by agreement: what is written to a page is lost when it leaves.
// Ownership: borrows the bytes; its range goes with it. Threading: any thread reads the range.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "serialization/base/result.h"

namespace djinn::baselines {

class DemandPager {
 public:
  struct Options {
    uint64_t resident_bytes_max = 0;
    uint64_t page_bytes = 4096;  // a power of two, at least 4096
  };
  // kUnsupported: this system lets us handle no faults. kInvalid: not even one page may stay.
  static Result<std::unique_ptr<DemandPager>> make(std::span<const std::byte> bytes,
                                                   const Options& options);
  ~DemandPager();
  DemandPager(const DemandPager&) = delete;
  DemandPager& operator=(const DemandPager&) = delete;

  // As long as the bytes, and equal to them.
  [[nodiscard]] std::byte* data() const { return range_; }
  [[nodiscard]] uint64_t faults() const { return faults_; }
  [[nodiscard]] uint64_t evictions() const { return evictions_; }
  [[nodiscard]] uint64_t resident_bytes_peak() const { return resident_peak_; }

 private:
  DemandPager(std::span<const std::byte> bytes, const Options& options);
  Result<> open();
  void serve();
  void bring(uint64_t address);
  void evict_first();
  [[nodiscard]] uint64_t page_length(uint64_t page) const;

  const std::span<const std::byte> bytes_;
  const Options options_;
  std::byte* mapping_ = nullptr;
  std::byte* range_ = nullptr;
  uint64_t mapped_ = 0;
  uint64_t length_ = 0;  // whole pages of the system
  int faults_fd_ = -1;
  int stop_fd_ = -1;
  // -- the handler's
  std::vector<bool> resident_;
  std::deque<uint64_t> arrivals_;
  uint64_t resident_bytes_ = 0;
  std::vector<std::byte> tail_;  // the last page of the system, filled up with zeros
  std::atomic<uint64_t> faults_ = 0;
  std::atomic<uint64_t> evictions_ = 0;
  std::atomic<uint64_t> resident_peak_ = 0;
  std::thread handler_;  // Last: it uses all of the above.
};

}  // namespace djinn::baselines
