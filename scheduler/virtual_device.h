// SPDX-License-Identifier: Apache-2.0
// Virtual device: the scheduler with a simulated clock and jobs that are only a duration.
//
// Why: thousands of tenants and an hour of load in seconds, the same to the last decision each
// time. It shows what a policy does, and nothing about a machine: whatever is printed from it says
// "simulated device".
// Ownership: owns its scheduler. Threading: plain value.
#pragma once

#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "scheduler/scheduler.h"

namespace djinn::sched {

// What a session sends. Open (period_ns > 0): a job every so often, whatever became of the last.
// Closed: at most `in_flight` jobs, and the next one `think_ns` after one has ended.
struct Traffic {
  std::string tenant;
  JobInfo job;             // as each is; arrived_ns and a relative deadline_ns are filled in
  uint64_t run_ns = 0;     // of a job: a uniform draw from half to one and a half of it,
  bool exact = true;       // or exactly this
  uint64_t period_ns = 0;  // likewise drawn
  uint64_t think_ns = 0;   // likewise
  uint64_t from_ns = 0;
  uint64_t until_ns = kNever;
  uint32_t in_flight = 1;
};

struct Served {
  uint64_t sent = 0;
  uint64_t ended = 0;
  uint64_t used_ns = 0;
  uint64_t longest_wait_ns = 0;  // from its coming to its begin, of jobs that began
  uint64_t longest_run_ns = 0;
  std::vector<uint64_t> latency_ns;  // from its coming to its end, if kept
};

class VirtualDevice {
 public:
  struct Options {
    std::string policy = "fcfs";
    uint64_t seed = 1;
    uint64_t chunk_ns = 0;  // A job gives way after so long; 0: never.
    bool keep_latencies = false;
  };
  explicit VirtualDevice(Options options);

  SessionId add(Traffic traffic);
  // Calls it when the clock says so.
  void at(uint64_t when_ns, std::function<void(VirtualDevice&)> what);
  // No more jobs come.
  void drain();
  void close(SessionId session);
  // Until the clock says so, or nothing is left to happen.
  void run(uint64_t until_ns = kNever);

  [[nodiscard]] uint64_t now_ns() const { return now_ns_; }
  [[nodiscard]] Scheduler& scheduler() { return scheduler_; }
  [[nodiscard]] const Served& served(SessionId session) const {
    return sources_.at(session).served;
  }
  [[nodiscard]] uint64_t busy_ns() const { return busy_ns_; }
  // Time in which it did nothing although a job waited that could have run.
  [[nodiscard]] uint64_t held_ns() const { return held_ns_; }
  // Over every decision and its time.
  [[nodiscard]] uint64_t digest() const { return digest_; }

 private:
  struct Source {
    Traffic traffic;
    Served served;
    std::queue<JobInfo> arrived;  // in order: what its scheduler's lane has
    uint64_t left_ns = 0;         // of the first job, if it has begun
    bool begun = false;
    bool closed = false;
  };
  struct Event {
    uint64_t when_ns = 0;
    uint64_t number = 0;  // of two at the same time, the first that was planned
    std::function<void(VirtualDevice&)> what;
    bool operator>(const Event& other) const {
      return when_ns != other.when_ns ? when_ns > other.when_ns : number > other.number;
    }
  };
  void arrive(SessionId session);
  void plan_arrival(SessionId session, uint64_t when_ns);
  void begin(SessionId session);
  void end_chunk(SessionId session, uint64_t used_ns);
  void end_job(SessionId session, Source& source);
  void start_next();
  [[nodiscard]] uint64_t draw(uint64_t mean_ns);
  void fold(uint64_t value);

  const Options options_;
  Scheduler scheduler_;
  std::mt19937_64 random_;
  std::unordered_map<SessionId, Source> sources_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t events_planned_ = 0;
  uint64_t next_session_ = 1;
  uint64_t now_ns_ = 0;
  bool busy_ = false;
  bool draining_ = false;
  uint64_t busy_ns_ = 0;
  uint64_t idle_since_ns_ = kNever;  // though somebody waits
  uint64_t held_ns_ = 0;
  uint64_t digest_ = 14695981039346656037ULL;
};

}  // namespace djinn::sched
