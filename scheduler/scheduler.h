// SPDX-License-Identifier: Apache-2.0
// Scheduler: the jobs of all sessions, and whose runs next, as its Policy says.
//
// It keeps what is true of any policy: one session's jobs run in order and one at a time, a paused
// session waits, device time is charged to the session's tenant, a policy can be exchanged while
// jobs wait. The jobs themselves are the caller's; here each is a JobInfo.
// Jobs of one *company* (and one class) may run together: whoever comes while the company is amid
// a step waits for the next one, so that they fall into step; for one and a half such steps, or
// kLateNs, at most: the step may itself wait for others.
// Nothing is allocated by a decision (take, charge, yield, done).
// Ownership: owns lanes, tenants and the policy. Threading: plain value; the owner locks.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "scheduler/lane.h"
#include "scheduler/policy.h"
#include "scheduler/waits.h"

namespace djinn::sched {

// The last decisions, for people.
struct Decided {
  uint64_t number = 0;  // 1, 2, 3, ...
  uint64_t at_ns = 0;
  SessionId session;
  const Tenant* tenant = nullptr;
  std::string_view policy;
  Why why;
};

class Scheduler {
 public:
  static constexpr uint64_t kLateNs = 50'000'000;
  static constexpr size_t kDecisionsKept = 64;  // The oldest goes for each.

  explicit Scheduler(std::unique_ptr<Policy> policy) : policy_(std::move(policy)) {}

  void open(SessionId session, std::string_view tenant);
  // One more job of this session waits.
  void add(SessionId session, const JobInfo& job, uint64_t now_ns);

  // The session whose first job runs now; it gets no other turn until `yield` or `done`.
  struct Turn {
    std::optional<SessionId> session;
    uint64_t hold_until_ns = 0;  // Nobody yet, though somebody waits: ask again then.
  };
  Turn take(uint64_t now_ns);
  // Others of that session's company, `most` at most, in the order in which the policy would choose
  // them: each has its turn now, too. Appended to `mates`.
  void join(SessionId first, size_t most, uint64_t now_ns, std::vector<SessionId>& mates);
  // It used the device; also after `done`, on a device that works on its own.
  void charge(SessionId session, uint64_t used_ns);
  // Its job is at the end of a chunk and stands first in its lane again: the scheduler chooses
  // anew. From here on it goes on together with those that yield with the same `company`.
  void yield(SessionId session, uint64_t now_ns, uint64_t company = 0);
  void done(SessionId session, uint64_t now_ns);
  // A job that never waited has ended without a turn.
  void answered(SessionId session, uint64_t used_ns);
  // A job ran that never waited, since nobody else did.
  void ran(SessionId session, const JobInfo& job, uint64_t used_ns, uint64_t now_ns);

  // What its first job uses and is not on the device would be there after so long (JobInfo).
  void set_move(SessionId session, uint64_t move_ns);
  // A paused session keeps its jobs and gets no turn.
  void pause(SessionId session, bool paused, uint64_t now_ns);
  // Forgets the session; its jobs are the caller's to drop. One that runs is charged still.
  void remove(SessionId session, uint64_t now_ns);

  // No job is lost; the new policy knows nothing of what tenants had.
  void set_policy(std::unique_ptr<Policy> policy, uint64_t now_ns);
  [[nodiscard]] const Policy& policy() const { return *policy_; }
  void set_terms(std::string_view tenant, const Terms& terms, uint64_t now_ns);

  // Some session could have a turn (though the policy may hold the device).
  [[nodiscard]] bool ready() const { return candidates_ > 0; }
  // If all that could have a turn are of one company and at its beginning: which, and how many.
  struct Waiting {
    uint64_t company = 0;  // 0: they are not.
    size_t sessions = 0;
  };
  [[nodiscard]] Waiting only_company() const;
  [[nodiscard]] size_t waiting(SessionId session) const;
  [[nodiscard]] bool is_paused(SessionId session) const { return lanes_.at(session).paused; }
  [[nodiscard]] size_t waiting() const { return waiting_; }
  [[nodiscard]] const std::map<std::string, Tenant, std::less<>>& tenants() const {
    return tenants_;
  }
  // By class, of the jobs of now: those that do not run.
  [[nodiscard]] std::array<uint64_t, kClasses> queued() const;
  // By class, since the start: how long each job waited for its first turn.
  [[nodiscard]] const std::array<Waits, kClasses>& waits() const { return waits_; }
  // Oldest first.
  [[nodiscard]] std::vector<Decided> decisions() const;

 private:
  Tenant& tenant(std::string_view name);
  void offer(Lane& lane, uint64_t now_ns);
  void withdraw(Lane& lane);
  void run(Lane& lane, uint64_t now_ns);
  // A session that is not paused has begun a job of that company and class, and has not ended it.
  [[nodiscard]] bool amid(uint64_t company, Class in_class) const;
  // Whoever waits for the company's next step need not any more, unless it is still amid one.
  void call_late(uint64_t company, uint64_t now_ns);
  void call_overdue(uint64_t now_ns);
  [[nodiscard]] static bool overdue(const Lane& lane, uint64_t now_ns);
  static void note_gap(Lane& lane, uint64_t now_ns);
  void note_rest(Lane& lane, uint64_t now_ns);
  void note(const Lane& lane, const Why& why, uint64_t now_ns);

  std::unique_ptr<Policy> policy_;
  std::map<std::string, Tenant, std::less<>>
      tenants_;  // They stay: debts do not end with a session.
  std::unordered_map<SessionId, Lane> lanes_;
  size_t waiting_ = 0;  // jobs that do not run
  size_t candidates_ = 0;
  size_t late_ = 0;
  std::array<Waits, kClasses> waits_;
  std::array<Decided, kDecisionsKept> decided_;
  uint64_t decisions_ = 0;
};

}  // namespace djinn::sched
