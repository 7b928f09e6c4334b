// SPDX-License-Identifier: Apache-2.0
// Runner: one device's jobs, one after another, and the thread they run on.
//
// Why a tiny job may also run on the caller's thread (`try_run`): a hand-over between threads costs
// more than a ping-pong between processes, so a step of a few microseconds is received, run and
// answered without one. Why reports and not callbacks: sessions belong to the I/O thread, which
// takes what happened in one go and in order.
// Why a job gives way: one of a second would be the wait of everybody else. After each chunk of
// it, if somebody waits, the scheduler chooses again; what has run of the job is not run again, and
// its answers are out.
// Why several jobs run together (`lockstep`): sessions that decode with the same weights read them
// once instead of once each. They are found by their plan and what it bound last time.
// Ownership: borrows the device; owns the Replays, which die on the runner's thread.
// Threading: everything but the device's work is called by the I/O thread.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "scheduler/scheduler.h"
#include "scheduler/session_hints.h"
#include "serialization/base/mutex.h"
#include "server/executor.h"
#include "server/gathering.h"
#include "server/reporter.h"
#include "server/session/rate_limits.h"
#include "server/task.h"

namespace djinn::server {

// Since the start.
struct LockstepStats {
  uint64_t groups = 0;        // steps that several jobs made together
  uint64_t jobs = 0;          // of these
  uint64_t operators = 0;     // that ran once for several of them
  uint64_t held_ns = 0;       // the device rested until a group had come together
  uint64_t packed_bytes = 0;  // of weights' second copies that groups multiply by, now
};

class Runner {
 public:
  struct Options {
    uint64_t chunk_ns = 0;  // A job gives way after so long; 0: never.
    size_t lockstep = 1;    // So many jobs run together at most; 1: each runs alone.
  };
  // `wake` is called on the runner's thread when reports are there to be taken. On a device that
  // works on its own no job gives way; and no more run together than the device can take.
  Runner(Device& device, std::function<void()> wake, std::unique_ptr<sched::Policy> policy,
         const Options& options);
  // Drops what is queued, waits for what runs, frees all Replays.
  ~Runner();

  void open(SessionId session, std::string_view tenant);
  // Queues a job behind the session's earlier ones. One that is refused (Work::refused) needs no
  // turn if there are none and nothing of it has a length but errors: it is answered when the chunk
  // that runs is over.
  void submit(SessionId session, Task task);
  // Runs the job here and now if the device is idle and nobody waits for it; else nothing happens.
  // What there is to report is appended to `reports`.
  // Never with a device that works on its own: the caller might wait for what it does.
  bool try_run(SessionId session, Task& task, std::vector<Report>& reports);
  // From the next decision on.
  void set_terms(std::string_view tenant, const sched::Terms& terms);
  // Likewise; no job is lost.
  void set_policy(std::unique_ptr<sched::Policy> policy);
  [[nodiscard]] std::string policy();
  // A paused session's jobs wait.
  void pause(SessionId session, bool paused);
  // Drops what can be built again, when it is the session's turn.
  void shrink(SessionId session);
  // What its app says of the session from here on. A rest begins when the jobs that are queued have
  // ended, and is over when another comes.
  void hint(SessionId session, const sched::SessionHints& hints);
  // Drops the session's queued jobs; its Replay dies as soon as nothing of it runs.
  void close(SessionId session);

  // What happened since the last call, in order, swapped into `reports` (which must be empty).
  void take_reports(std::vector<Report>& reports);
  // Nothing runs, here or on the device, is queued or waits to be freed.
  [[nodiscard]] bool idle();
  // Of every tenant that ever had a session or terms, by name: device time since the start.
  struct TenantUse {
    std::string tenant;
    uint64_t used_ns = 0;
    uint64_t jobs = 0;  // that have ended
  };
  [[nodiscard]] std::vector<TenantUse> tenant_uses();
  [[nodiscard]] RateLimits::Use use_of(std::string_view tenant);
  struct Load {
    uint64_t busy_ns = 0;  // of the device, since the start; what runs now counts already. Never
                           // less than it was, so what was between two looks is a difference.
    std::array<uint64_t, sched::kClasses> queued = {};  // jobs that wait, by class
    std::array<sched::Waits, sched::kClasses> waits = {};
    uint64_t late = 0;  // jobs that could not meet their deadline any more when they had a turn
  };
  [[nodiscard]] Load load();
  // Only while the session is open.
  [[nodiscard]] ReplayStats stats(SessionId session);
  [[nodiscard]] LockstepStats lockstep_stats();

 private:
  // A job from its first chunk to its last.
  struct Begun {
    Task task;
    std::shared_ptr<Reporter> reporter;
    uint64_t begin_ns = 0;
    uint64_t used_ns = 0;      // its share
    uint64_t occupied_ns = 0;  // by all that ran together
    uint64_t company = 0;      // 0: it ran alone, whatever else came.
  };
  struct Lane {
    SessionId session;
    std::unique_ptr<Begun> begun;    // Likewise. Outlives the Replay, which may be amid it.
    std::unique_ptr<Replay> replay;  // Used by whoever set busy_.
    std::deque<Task> tasks;
    bool amid = false;        // A job has begun and has not ended.
    bool answering = false;   // A job that needs no turn is to be answered.
    bool move_known = false;  // The scheduler knows how far its first job's bytes are.
    sched::SessionHints hints;

    [[nodiscard]] bool is_through() const { return tasks.empty() && !amid; }
  };
  struct Resting {
    std::shared_ptr<Lane> lane;
    sched::SessionHints hints;
  };
  using LaneMap = std::unordered_map<SessionId, std::shared_ptr<Lane>>;

  // A refused job that waits for nothing but the thread.
  struct Refused {
    std::shared_ptr<Lane> lane;
    Task task;
  };

  void thread_main();
  bool step();           // Does what is due, and a chunk of a job; false: nothing is.
  void wait_for_work();  // Or until the policy holds the device no longer.
  // What is to be done before the next chunk, and whose that is.
  struct Due {
    std::vector<std::shared_ptr<Lane>> closed;
    std::vector<std::shared_ptr<Lane>> shrinking;
    std::vector<Resting> resting;
    std::vector<Refused> refused;
    std::vector<std::shared_ptr<Lane>> lanes;  // Several: their jobs run together.
  };
  [[nodiscard]] std::optional<Due> take_due();
  void take_turn(Due& due) REQUIRES(mutex_);
  using Lanes = std::span<const std::shared_ptr<Lane>>;
  void run_chunk(Lanes lanes);
  void begin(Lane& lane, uint64_t now);
  // If it cannot end by its deadline, it is refused.
  void refuse_if_late(Task& task, uint64_t now);
  [[nodiscard]] bool needs_no_turn(const Lane& lane, const Task& task) const REQUIRES(mutex_);
  void answer(Refused& refused);
  // Equal parts of the time for the members that are not refused.
  [[nodiscard]] std::vector<uint64_t> shares(uint64_t used_ns) const;
  // What the chunk did: each pays its share of the time.
  void finish(Lanes lanes, uint64_t used_ns, uint64_t now);
  // Its job is not at its end: the scheduler chooses again.
  void give_way(const Lane& lane, uint64_t used_ns, uint64_t now, uint64_t group) REQUIRES(mutex_);
  // Its job is. `ended`: the device, too, is through with it.
  void leave_lane(Lane& lane, bool ended, uint64_t used_ns, uint64_t now) REQUIRES(mutex_);
  // The job has ended. Nothing: the device still works on it.
  std::optional<Report> end(Begun& job);

  // -- who runs together (runner_company.cc)
  // 0: the job runs alone.
  [[nodiscard]] uint64_t company_of(const Task& task) const;
  // Until when the device rests since others of the company that waits will come; 0: it does not.
  [[nodiscard]] uint64_t gather(uint64_t now) REQUIRES(mutex_);
  void join(Due& due, SessionId first, uint64_t now) REQUIRES(mutex_);
  void charge(SessionId session, uint64_t used_ns) REQUIRES(mutex_);
  // Its plan's jobs take so long.
  static void note_time(const Task& task, uint64_t used_ns, uint64_t occupied_ns);
  static void note_operator(const Task& task, const Chunk& chunk);
  // What the scheduler may know of a job that comes now.
  [[nodiscard]] sched::JobInfo job_info(const Lane& lane, const Task& task,
                                        uint64_t arrived_ns) const;
  // A job has ended that was begun then, and left to the device.
  void left(Report last, uint64_t begin_ns);
  void publish(Report report);
  // Something has changed: who runs a job learns whether somebody waits, and who sleeps looks.
  void look_again() REQUIRES(mutex_);
  // Tells the scheduler how far the bytes of waiting jobs are, where that may have changed.
  void note_moves() REQUIRES(mutex_);
  [[nodiscard]] bool has_work() REQUIRES(mutex_);
  [[nodiscard]] bool rest_due() const REQUIRES(mutex_);
  // Those whose queued jobs have ended.
  [[nodiscard]] std::vector<Resting> take_resting() REQUIRES(mutex_);
  static void rest(const Resting& resting);

  Device& device_;
  const std::function<void()> wake_;
  const uint64_t chunk_ns_;
  const size_t lockstep_;
  std::atomic<uint64_t> late_ = 0;
  std::atomic<bool> others_wait_ = false;  // Whoever runs a job should give way, after a chunk.

  Mutex mutex_;
  std::condition_variable_any wanted_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool busy_ GUARDED_BY(mutex_) = false;     // Someone runs a job.
  size_t on_device_ GUARDED_BY(mutex_) = 0;  // Jobs of this thread that run, or the device's.
  std::condition_variable_any device_done_;
  LaneMap lanes_ GUARDED_BY(mutex_);
  uint64_t moves_ GUARDED_BY(mutex_) = 0;  // of the device, when all that is known was found out
  sched::Scheduler queue_ GUARDED_BY(mutex_);
  Gathering gathering_ GUARDED_BY(mutex_);
  uint64_t groups_ GUARDED_BY(mutex_) = 0;  // that have given way, to tell them apart
  LockstepStats lockstep_stats_ GUARDED_BY(mutex_);
  std::vector<SessionId> mates_ GUARDED_BY(mutex_);
  uint64_t held_since_ns_ GUARDED_BY(mutex_) = 0;   // 0: nobody is waited for.
  uint64_t hold_until_ns_ GUARDED_BY(mutex_) = 0;   // No job begins before.
  uint64_t used_ns_ GUARDED_BY(mutex_) = 0;         // device time, by whomever
  uint64_t chunk_since_ns_ GUARDED_BY(mutex_) = 0;  // The thread runs a chunk; 0: it does not.
  uint64_t busy_shown_ns_ GUARDED_BY(mutex_) = 0;   // the last Load's
  uint64_t device_free_ns_ GUARDED_BY(mutex_) = 0;  // The last job that was left to it ended then.
  std::vector<std::shared_ptr<Lane>> closed_ GUARDED_BY(mutex_);  // To be destroyed.
  std::vector<std::shared_ptr<Lane>> shrinking_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Lane>> resting_ GUARDED_BY(mutex_);  // Their apps said so.
  std::vector<Refused> refused_ GUARDED_BY(mutex_);

  std::vector<Member> members_;  // of the chunk that runs

  Mutex reports_mutex_;
  std::vector<Report> reports_ GUARDED_BY(reports_mutex_);

  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace djinn::server
