// SPDX-License-Identifier: Apache-2.0
// Admission: whether one more job may wait, and if not, when to come again.
//
// What waits is bounded, by tenant and together, and is refused before anything is done for it:
// a server that takes more than it can do is late for everybody. Together is not first come, first
// served: a tenant that has less than an equal part of the queue gets in although it is full, and
// so does a session that has less than an equal part of its tenant's. So who floods a queue refuses
// only itself, and the n-th to come makes it longer by an n-th at most.
// A tenant's rates (rate_limits.h) are kept here, too: they hold also while the server has nothing
// else to do.
// A job may have a deadline. One that could only be late is not asked to come again, and none that
// cannot end in time may wait: its device time would be taken from those that still can.
// Ownership: owns what it counts. Threading: the I/O thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "server/session/rate_limits.h"

namespace djinn::server {

// Refusals since the server's start, by what they were for.
struct Refusals {
  uint64_t queue = 0;            // jobs: too many wait
  uint64_t tenant_queue = 0;     // jobs: too many of the tenant wait
  uint64_t sessions = 0;         // hellos: too many sessions are there
  uint64_t tenant_sessions = 0;  // hellos: the tenant has as many as it may
  uint64_t draining = 0;         // hellos: the server drains
  uint64_t device_time = 0;      // jobs: the tenant has used what it may per second
  uint64_t bytes = 0;            // likewise
  uint64_t requests = 0;         // likewise
  uint64_t deadline = 0;         // jobs: they would have ended too late; nobody is to come again
};

class Admission {
 public:
  // A tenant's jobs that were received and have not ended.
  struct Queue {
    uint64_t jobs = 0;
    uint64_t expected_ns = 0;  // of device time;
    uint64_t prompt_ns = 0;    // of this, by jobs that are not best-effort
    uint64_t jobs_max = 0;     // 0: no limit of its own
    uint64_t sessions = 0;     // that have some of the jobs
    bool best_effort = false;  // All its jobs are.
    uint64_t paused_ns = 0;    // of expected_ns and of prompt_ns, by sessions that are paused
    uint64_t paused_prompt_ns = 0;
    RateLimits rates = {};
    uint64_t rate_refusals = 0;
  };
  // A session's part of it: what its jobs in flight are counted as, oldest first.
  struct Counted {
    uint64_t ns = 0;
    bool prompt = false;
    bool refused = false;  // It is in nobody's way.
  };
  struct Place {
    Queue* queue = nullptr;
    std::deque<Counted> counted = {};
    uint64_t jobs = 0;         // of these, that were not refused
    uint64_t expected_ns = 0;  // of device time, by these
    uint64_t prompt_ns = 0;    // likewise
    bool paused = false;
  };
  struct Refusal {
    uint32_t retry_after_ms = 0;  // 1 to kRetryAfterMsMax
    bool late = false;            // Then it would be too late.
    bool rate = false;            // For its tenant's rates; else a queue is full.
  };
  // A job as it is let in.
  struct Entrant {
    uint64_t expected_ns = 0;  // of device time; 0: nobody knows
    bool prompt = true;        // It is not best-effort.
    bool refused = false;      // It will not run.
  };

  explicit Admission(uint64_t jobs_max) : jobs_max_(jobs_max) {}

  // Made when it is asked for first; stays.
  [[nodiscard]] Queue& queue(std::string_view tenant);
  // Nothing: one more job of it may wait. Else in how many milliseconds half of what is in its way
  // should have run, or its tenant may have more by its rates. `patience_ns`: until its deadline;
  // who has sent too many jobs or bytes waits all the same.
  [[nodiscard]] std::optional<Refusal> refuse(const Place& place, uint64_t now_ns,
                                              uint64_t patience_ns = UINT64_MAX);
  // How long what is there could keep the device from the job, if tenants have equal parts, and so
  // have sessions of one, and best-effort jobs stand back for others': the least that most policies
  // promise. Of a job that nobody knows what is typical is expected. 0: nothing is. What has begun
  // counts as a whole, and other paused sessions not at all.
  [[nodiscard]] uint64_t wait_ns(const Place& place, const Entrant& entrant) const;
  // Its jobs run no more, or do again.
  void pause(Place& place, bool paused);
  // A job came. One that is refused is only remembered until its end: it takes no place.
  void add(Place& place, const Entrant& entrant, uint64_t now_ns);
  // The oldest one has ended.
  void end(Place& place);

  [[nodiscard]] uint64_t jobs() const { return jobs_; }
  [[nodiscard]] Refusals& refusals() { return refusals_; }

 private:
  struct Full {
    uint32_t retry_after_ms = 0;
    uint64_t Refusals::*reason = nullptr;
  };
  [[nodiscard]] std::optional<Full> is_full(const Place& place) const;
  void count(Place& place, const Counted& counted, bool comes);
  [[nodiscard]] uint32_t retry_after_ms(const Queue& queue, bool own_limit) const;

  const uint64_t jobs_max_;
  uint64_t jobs_ = 0;
  uint64_t expected_ns_ = 0;
  uint64_t prompt_ns_ = 0;
  uint64_t paused_ns_ = 0;
  uint64_t paused_prompt_ns_ = 0;
  uint64_t typical_ns_ = 1'000'000;  // of a job, lately
  uint64_t tenants_ = 0;             // that have jobs
  std::map<std::string, Queue, std::less<>> queues_;
  Refusals refusals_;
};

}  // namespace djinn::server
