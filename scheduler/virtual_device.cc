// SPDX-License-Identifier: Apache-2.0
#include "scheduler/virtual_device.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace djinn::sched {
namespace {

std::unique_ptr<Policy> policy_of(const std::string& name) {
  auto policy = make_policy(name);
  assert(policy);
  return std::move(*policy);
}

}  // namespace

VirtualDevice::VirtualDevice(Options options)
    : options_(std::move(options)),
      scheduler_(policy_of(options_.policy)),
      random_(options_.seed) {}

SessionId VirtualDevice::add(Traffic traffic) {
  const SessionId session{next_session_++};
  scheduler_.open(session, traffic.tenant);
  const uint64_t first_ns = std::max(now_ns_, traffic.from_ns);
  const uint32_t jobs = traffic.period_ns > 0 ? 1 : traffic.in_flight;
  sources_[session].traffic = std::move(traffic);
  for (uint32_t i = 0; i < jobs; ++i) plan_arrival(session, first_ns);
  return session;
}

void VirtualDevice::at(uint64_t when_ns, std::function<void(VirtualDevice&)> what) {
  events_.push({.when_ns = when_ns, .number = ++events_planned_, .what = std::move(what)});
}

void VirtualDevice::drain() { draining_ = true; }

void VirtualDevice::close(SessionId session) {
  Source& source = sources_.at(session);
  source.closed = true;
  scheduler_.remove(session, now_ns_);
}

void VirtualDevice::run(uint64_t until_ns) {
  while (!events_.empty() && events_.top().when_ns <= until_ns) {
    const auto what = events_.top().what;
    now_ns_ = events_.top().when_ns;
    events_.pop();
    what(*this);
    start_next();
  }
  if (until_ns != kNever) now_ns_ = until_ns;
}

void VirtualDevice::plan_arrival(SessionId session, uint64_t when_ns) {
  at(when_ns, [session](VirtualDevice& device) { device.arrive(session); });
}

void VirtualDevice::arrive(SessionId session) {
  Source& source = sources_.at(session);
  const Traffic& traffic = source.traffic;
  if (draining_ || source.closed || now_ns_ >= traffic.until_ns) return;
  JobInfo job = traffic.job;
  job.arrived_ns = now_ns_;
  if (job.deadline_ns != kNever) job.deadline_ns += now_ns_;
  ++source.served.sent;
  source.arrived.push(job);
  scheduler_.add(session, job, now_ns_);
  if (traffic.period_ns > 0) plan_arrival(session, now_ns_ + draw(traffic.period_ns));
}

void VirtualDevice::start_next() {
  if (busy_) return;
  const Scheduler::Turn turn = scheduler_.take(now_ns_);
  if (turn.session) {
    if (idle_since_ns_ != kNever) held_ns_ += now_ns_ - std::exchange(idle_since_ns_, kNever);
    begin(*turn.session);
    return;
  }
  if (turn.hold_until_ns <= now_ns_) return;
  if (idle_since_ns_ == kNever) idle_since_ns_ = now_ns_;
  at(turn.hold_until_ns, [](VirtualDevice& /*device*/) {});
}

void VirtualDevice::begin(SessionId session) {
  Source& source = sources_.at(session);
  fold(session.value);
  fold(now_ns_);
  busy_ = true;
  if (!source.begun) {
    source.begun = true;
    source.left_ns = source.traffic.exact ? source.traffic.run_ns : draw(source.traffic.run_ns);
    Served& served = source.served;
    served.longest_run_ns = std::max(served.longest_run_ns, source.left_ns);
    served.longest_wait_ns =
        std::max(served.longest_wait_ns, now_ns_ - source.arrived.front().arrived_ns);
  }
  const uint64_t chunk_ns = options_.chunk_ns == 0 ? kNever : options_.chunk_ns;
  const uint64_t used_ns = std::min(source.left_ns, chunk_ns);
  at(now_ns_ + used_ns,
     [session, used_ns](VirtualDevice& device) { device.end_chunk(session, used_ns); });
}

void VirtualDevice::end_chunk(SessionId session, uint64_t used_ns) {
  Source& source = sources_.at(session);
  busy_ = false;
  busy_ns_ += used_ns;
  source.left_ns -= used_ns;
  source.served.used_ns += used_ns;
  scheduler_.charge(session, used_ns);
  if (source.left_ns > 0) {
    scheduler_.yield(session, now_ns_);
  } else {
    scheduler_.done(session, now_ns_);
    end_job(session, source);
  }
}

void VirtualDevice::end_job(SessionId session, Source& source) {
  ++source.served.ended;
  if (options_.keep_latencies) {
    source.served.latency_ns.push_back(now_ns_ - source.arrived.front().arrived_ns);
  }
  source.arrived.pop();
  source.begun = false;
  const Traffic& traffic = source.traffic;
  if (traffic.period_ns > 0) return;
  plan_arrival(session, now_ns_ + (traffic.think_ns == 0 ? 0 : draw(traffic.think_ns)));
}

uint64_t VirtualDevice::draw(uint64_t mean_ns) { return mean_ns / 2 + random_() % (mean_ns + 1); }

void VirtualDevice::fold(uint64_t value) { digest_ = (digest_ ^ value) * 1099511628211ULL; }

}  // namespace djinn::sched
