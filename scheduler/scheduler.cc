// SPDX-License-Identifier: Apache-2.0
#include "scheduler/scheduler.h"

#include <algorithm>
#include <cassert>
#include <tuple>
#include <utility>

namespace djinn::sched {
namespace {

constexpr uint64_t kGapNewShare = 8;        // A gap moves the mean by an eighth.
constexpr uint64_t kGapMaxNs = 10'000'000;  // A longer one is a new request, not a gap.

Class class_of(const JobInfo& job, const Tenant& tenant) {
  return std::max(job.wanted, tenant.terms.ceiling);
}

}  // namespace

void Scheduler::open(SessionId session, std::string_view name) {
  Lane& lane = lanes_[session];
  lane.session = session;
  lane.tenant = &tenant(name);
  ++lane.tenant->sessions;
}

Tenant& Scheduler::tenant(std::string_view name) {
  const auto at = tenants_.find(name);
  if (at != tenants_.end()) return at->second;
  Tenant& out = tenants_[std::string(name)];
  out.name = name;
  out.number = tenants_.size();
  for (Group& group : out.groups) group.tenant = &out;
  return out;
}

void Scheduler::add(SessionId session, const JobInfo& job, uint64_t now_ns) {
  Lane& lane = lanes_.at(session);
  note_gap(lane, now_ns);
  lane.jobs.push(job);
  ++waiting_;
  ++lane.tenant->waiting;
  offer(lane, now_ns);
}

Scheduler::Turn Scheduler::take(uint64_t now_ns) {
  if (late_ > 0) call_overdue(now_ns);
  const Choice choice = policy_->choose(now_ns);
  if (choice.lane == nullptr) return {.session = {}, .hold_until_ns = choice.hold_until_ns};
  Lane& lane = *choice.lane;
  assert(!lane.running && !lane.paused);
  note(lane, choice.why, now_ns);
  run(lane, now_ns);
  return {.session = lane.session, .hold_until_ns = 0};
}

void Scheduler::run(Lane& lane, uint64_t now_ns) {
  withdraw(lane);
  lane.running = true;
  --waiting_;
  --lane.tenant->waiting;
  if (std::exchange(lane.begun, true)) return;
  lane.company = lane.job().company;
  const uint64_t arrived_ns = std::min(lane.job().arrived_ns, now_ns);
  waits_[static_cast<size_t>(lane.in_class)].add(now_ns - arrived_ns);
}

void Scheduler::join(SessionId first, size_t most, uint64_t now_ns, std::vector<SessionId>& mates) {
  const Lane& leader = lanes_.at(first);
  const uint64_t company = leader.job().company;
  if (company == 0) return;
  const auto belongs = [&](const Lane& lane) {
    return lane.candidate && lane.job().company == company && lane.in_class == leader.in_class;
  };
  for (size_t i = 0; i < most; ++i) {
    Lane* best = nullptr;
    for (auto& [session, lane] : lanes_) {
      if (belongs(lane) && (best == nullptr || policy_->before(lane, *best))) best = &lane;
    }
    if (best == nullptr) return;
    run(*best, now_ns);
    mates.push_back(best->session);
  }
  for (auto& [session, lane] : lanes_) {  // For them there was no room.
    if (!belongs(lane)) continue;
    withdraw(lane);
    offer(lane, now_ns);
  }
}

Scheduler::Waiting Scheduler::only_company() const {
  Waiting out;
  for (const auto& [session, lane] : lanes_) {
    if (!lane.candidate) continue;
    const uint64_t company = lane.begun ? 0 : lane.job().company;
    if (company == 0 || (out.sessions > 0 && company != out.company)) return {};
    out.company = company;
    ++out.sessions;
  }
  return out;
}

bool Scheduler::amid(uint64_t company, Class in_class) const {
  return std::ranges::any_of(lanes_, [&](const auto& at) {
    const Lane& lane = at.second;
    return lane.begun && lane.company == company && lane.in_class == in_class && !lane.paused;
  });
}

void Scheduler::call_late(uint64_t company, uint64_t now_ns) {
  if (company == 0) return;
  while (late_ > 0) {  // In the order in which they came to wait; as long as nobody is amid.
    Lane* first = nullptr;
    for (auto& [session, lane] : lanes_) {
      if (!lane.late || lane.paused || lane.job().company != company) continue;
      if (amid(company, lane.in_class)) continue;
      if (first == nullptr || std::tie(lane.late_since_ns, lane.session) <
                                  std::tie(first->late_since_ns, first->session)) {
        first = &lane;
      }
    }
    if (first == nullptr) return;
    offer(*first, now_ns);
  }
}

void Scheduler::call_overdue(uint64_t now_ns) {
  for (auto& [session, lane] : lanes_) {
    if (lane.late && overdue(lane, now_ns)) offer(lane, now_ns);
  }
}

bool Scheduler::overdue(const Lane& lane, uint64_t now_ns) {
  const uint64_t step_ns = lane.job().step_ns;
  return now_ns - lane.late_since_ns >= std::max(kLateNs, step_ns + step_ns / 2);
}

void Scheduler::charge(SessionId session, uint64_t used_ns) {
  const auto at = lanes_.find(session);
  if (at == lanes_.end()) return;
  Lane& lane = at->second;
  lane.tenant->used_ns += used_ns;
  if (lane.running && !lane.removed) {
    lane.used_ns += used_ns;
    lane.tenant->begun_ns += used_ns;
  }
  policy_->charge(lane, std::max<uint64_t>(used_ns, 1));
}

void Scheduler::yield(SessionId session, uint64_t now_ns, uint64_t company) {
  Lane& lane = lanes_.at(session);
  assert(lane.running);
  if (lane.removed) return done(session, now_ns);
  lane.running = false;
  lane.jobs.front().company = company;
  ++waiting_;
  ++lane.tenant->waiting;
  offer(lane, now_ns);
}

void Scheduler::done(SessionId session, uint64_t now_ns) {
  Lane& lane = lanes_.at(session);
  assert(lane.running);
  lane.running = false;
  lane.begun = false;
  lane.tenant->begun_ns -= std::exchange(lane.used_ns, 0);
  ++lane.tenant->jobs;
  const uint64_t company = lane.company;
  if (lane.removed) {
    lanes_.erase(session);
  } else {
    lane.jobs.pop();
    if (lane.jobs.empty()) note_rest(lane, now_ns);
    offer(lane, now_ns);
  }
  call_late(company, now_ns);
}

void Scheduler::answered(SessionId session, uint64_t used_ns) {
  const auto at = lanes_.find(session);
  if (at == lanes_.end()) return;
  ++at->second.tenant->jobs;
  charge(session, used_ns);
}

void Scheduler::ran(SessionId session, const JobInfo& job, uint64_t used_ns, uint64_t now_ns) {
  Lane& lane = lanes_.at(session);
  assert(lane.jobs.empty());
  note_gap(lane, job.arrived_ns);
  lane.in_class = class_of(job, *lane.tenant);
  waits_[static_cast<size_t>(lane.in_class)].add(0);
  ++lane.tenant->jobs;
  charge(session, used_ns);
  note_rest(lane, now_ns);
}

void Scheduler::set_move(SessionId session, uint64_t move_ns) {
  Lane& lane = lanes_.at(session);
  if (lane.jobs.empty() || lane.jobs.front().move_ns == move_ns) return;
  lane.jobs.front().move_ns = move_ns;
  if (lane.candidate) policy_->moved(lane);
}

void Scheduler::pause(SessionId session, bool paused, uint64_t now_ns) {
  Lane& lane = lanes_.at(session);
  lane.paused = paused;
  if (!paused) return offer(lane, now_ns);
  if (lane.candidate) withdraw(lane);
  if (lane.begun) call_late(lane.company, now_ns);
}

void Scheduler::remove(SessionId session, uint64_t now_ns) {
  const auto at = lanes_.find(session);
  if (at == lanes_.end() || at->second.removed) return;
  Lane& lane = at->second;
  if (lane.candidate) withdraw(lane);
  if (std::exchange(lane.late, false)) --late_;
  policy_->forget(lane);
  const size_t dropped = lane.jobs.size() - (lane.running ? 1 : 0);
  waiting_ -= dropped;
  lane.tenant->waiting -= dropped;
  --lane.tenant->sessions;
  lane.tenant->begun_ns -= std::exchange(lane.used_ns, 0);
  if (lane.running) {
    lane.removed = true;
    return;
  }
  const uint64_t company = lane.begun ? lane.company : 0;
  lanes_.erase(at);
  call_late(company, now_ns);
}

void Scheduler::set_policy(std::unique_ptr<Policy> policy, uint64_t now_ns) {
  std::vector<Lane*> candidates;
  for (auto& [session, lane] : lanes_) {
    if (!lane.candidate) continue;
    withdraw(lane);
    candidates.push_back(&lane);
  }
  policy_ = std::move(policy);
  for (auto& [session, lane] : lanes_) {
    lane.group = nullptr;
    lane.virtual_ns = lane.behind_ns = 0;
  }
  for (auto& [name, each] : tenants_) {
    for (Group& group : each.groups) group.virtual_ns = group.floor_ns = group.behind_ns = 0;
  }
  // In the order in which they came, not in that of a hash.
  std::ranges::sort(candidates, {}, [](const Lane* lane) { return lane->session; });
  for (Lane* const lane : candidates) offer(*lane, now_ns);
}

void Scheduler::set_terms(std::string_view name, const Terms& terms, uint64_t now_ns) {
  assert(terms.weight > 0);
  Tenant& of = tenant(name);
  of.terms = terms;
  for (auto& [session, lane] : lanes_) {
    if (lane.tenant != &of || !lane.candidate) continue;
    withdraw(lane);
    offer(lane, now_ns);
  }
}

size_t Scheduler::waiting(SessionId session) const {
  const auto at = lanes_.find(session);
  if (at == lanes_.end()) return 0;
  return at->second.jobs.size() - (at->second.running ? 1 : 0);
}

std::array<uint64_t, kClasses> Scheduler::queued() const {
  std::array<uint64_t, kClasses> out{};
  for (const auto& [session, lane] : lanes_) {
    for (size_t i = lane.running ? 1 : 0; i < lane.jobs.size(); ++i) {
      ++out[static_cast<size_t>(class_of(lane.jobs.at(i), *lane.tenant))];
    }
  }
  return out;
}

std::vector<Decided> Scheduler::decisions() const {
  std::vector<Decided> out;
  const uint64_t kept = std::min<uint64_t>(decisions_, kDecisionsKept);
  for (uint64_t i = decisions_ - kept; i < decisions_; ++i) {
    out.push_back(decided_[i % kDecisionsKept]);
  }
  return out;
}

void Scheduler::offer(Lane& lane, uint64_t now_ns) {
  if (lane.candidate || lane.running || lane.paused || lane.jobs.empty()) return;
  lane.in_class = class_of(lane.job(), *lane.tenant);
  const uint64_t company = lane.begun ? 0 : lane.job().company;
  const bool was_late = std::exchange(lane.late, false);
  if (was_late) --late_;
  const bool waited = was_late && overdue(lane, now_ns);
  if (company != 0 && !waited && amid(company, lane.in_class)) {
    if (!was_late) lane.late_since_ns = now_ns;
    lane.late = true;
    ++late_;
    return;
  }
  lane.candidate = true;
  ++candidates_;
  policy_->enter(lane, now_ns);
}

void Scheduler::withdraw(Lane& lane) {
  lane.candidate = false;
  --candidates_;
  policy_->leave(lane);
}

void Scheduler::note_gap(Lane& lane, uint64_t now_ns) {
  const uint64_t since_ns = std::exchange(lane.resting_since_ns, kNever);
  if (since_ns == kNever || now_ns < since_ns || now_ns - since_ns > kGapMaxNs) return;
  const uint64_t gap_ns = now_ns - since_ns;
  if (lane.gap_mean_ns == 0) {
    lane.gap_mean_ns = gap_ns;
    lane.gap_deviation_ns = gap_ns / 2;
  } else {
    const uint64_t off_ns = std::max(gap_ns, lane.gap_mean_ns) - std::min(gap_ns, lane.gap_mean_ns);
    lane.gap_deviation_ns += off_ns / kGapNewShare - lane.gap_deviation_ns / kGapNewShare;
    lane.gap_mean_ns += gap_ns / kGapNewShare - lane.gap_mean_ns / kGapNewShare;
  }
  lane.gap_ns = lane.gap_mean_ns + 3 * lane.gap_deviation_ns;
}

void Scheduler::note_rest(Lane& lane, uint64_t now_ns) {
  lane.resting_since_ns = now_ns;
  policy_->rest(lane, now_ns);
}

void Scheduler::note(const Lane& lane, const Why& why, uint64_t now_ns) {
  ++decisions_;
  decided_[(decisions_ - 1) % kDecisionsKept] = {.number = decisions_,
                                                 .at_ns = now_ns,
                                                 .session = lane.session,
                                                 .tenant = lane.tenant,
                                                 .policy = policy_->name(),
                                                 .why = why};
}

}  // namespace djinn::sched
