// SPDX-License-Identifier: Apache-2.0
// JobInfo: what the scheduler knows of a job, and JobRing: the jobs of a session that wait.
//
// Nothing of it says what the job computes. Times are nanoseconds of whatever clock the caller
// has, a real or a simulated one. Threading: plain values.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace djinn::sched {

inline constexpr uint64_t kNever = UINT64_MAX;

// How much a delay hurts. A tenant's ceiling is the first of these that its jobs may have.
enum class Class : uint8_t { kLatencyCritical, kInteractive, kBestEffort };
inline constexpr size_t kClasses = 3;

[[nodiscard]] constexpr std::string_view to_text(Class of) {
  constexpr std::string_view kTexts[kClasses] = {"latency-critical", "interactive", "best-effort"};
  return kTexts[static_cast<size_t>(of)];
}

struct JobInfo {
  uint64_t arrived_ns = 0;
  uint64_t expected_ns = 0;       // of device time; 0: nobody knows yet
  uint64_t deadline_ns = kNever;  // when its answer is worth nothing any more
  uint64_t move_ns = 0;           // until what it uses and is not on the device would be there
  Class wanted = Class::kInteractive;
  uint64_t company = 0;  // Jobs with the same one may run together; 0: it runs alone.
  uint64_t step_ns = 0;  // So long the session's last such job took, with all that ran beside it.
};

// When a job is due: its deadline, or ten seconds after it came if it has none. So whoever waits
// is ahead of all that comes later, in the end.
inline constexpr uint64_t kPatienceNs = 10'000'000'000;
[[nodiscard]] inline uint64_t due_ns(const JobInfo& job) {
  return std::max(job.arrived_ns, std::min(job.deadline_ns, job.arrived_ns + kPatienceNs));
}

// First in, first out; keeps the room it once had.
class JobRing {
 public:
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] size_t size() const { return count_; }
  [[nodiscard]] JobInfo& front() {
    assert(count_ > 0);
    return jobs_[first_];
  }
  [[nodiscard]] const JobInfo& front() const {
    assert(count_ > 0);
    return jobs_[first_];
  }

  // The one behind so many others.
  [[nodiscard]] const JobInfo& at(size_t i) const {
    assert(i < count_);
    return jobs_[(first_ + i) % jobs_.size()];
  }

  void push(const JobInfo& job) {
    if (count_ == jobs_.size()) grow();
    jobs_[(first_ + count_) % jobs_.size()] = job;
    ++count_;
  }
  void pop() {
    assert(count_ > 0);
    first_ = (first_ + 1) % jobs_.size();
    --count_;
  }

 private:
  void grow() {
    std::rotate(jobs_.begin(), jobs_.begin() + static_cast<std::ptrdiff_t>(first_), jobs_.end());
    first_ = 0;
    jobs_.resize(std::max<size_t>(2, 2 * jobs_.size()));
  }

  std::vector<JobInfo> jobs_;
  size_t first_ = 0;
  size_t count_ = 0;
};

}  // namespace djinn::sched
