// SPDX-License-Identifier: Apache-2.0
// Report: who uses the server, and its memory, at one moment, for people and their tools.
// Threading: plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "scheduler/lane.h"
#include "scheduler/session_hints.h"
#include "server/executor.h"
#include "server/memory/artifact_store.h"
#include "server/runner.h"
#include "server/session/admission.h"
#include "server/session/plan_knowledge.h"

namespace djinn::server {

struct SessionReport {
  uint64_t session = 0;
  std::string tenant;
  std::string peer;
  std::string state;  // "greeting", "open", "ending"
  uint64_t age_ns = 0;
  uint64_t jobs = 0;       // that have ended
  uint64_t in_flight = 0;  // that were received and have not
  uint64_t storages = 0;   // alive
  uint64_t bytes = 0;      // of those, shared ones included
  uint64_t shared_bytes = 0;
  uint64_t upload_bytes = 0;  // received since it began
  sched::SessionHints hints = {};
};

// What a tenant has of a memory, in bytes: what was allocated for it, to the last one.
struct TenantMemory {
  uint64_t limit = 0;  // 0: none
  uint64_t used = 0;
  uint64_t peak = 0;
};

// What its account says, and the sums over its sessions that are there now.
struct TenantReport {
  std::string tenant;
  uint64_t sessions = 0;
  uint64_t jobs = 0;
  uint64_t in_flight = 0;
  uint64_t storages = 0;
  uint64_t bytes = 0;
  uint64_t shared_bytes = 0;
  uint64_t upload_bytes = 0;
  TenantMemory device;
  TenantMemory host;
  sched::Terms terms = {};
  uint64_t sessions_max = 0;  // 0: no limit
  Rates rates = {};
  uint64_t rate_refusals = 0;  // jobs that were too many by these
  uint64_t used_ns = 0;        // device time since the server's start
  uint64_t all_jobs = 0;       // that have ended since then, of whatever session

  void add(const SessionReport& session) {
    ++sessions;
    jobs += session.jobs;
    in_flight += session.in_flight;
    storages += session.storages;
    bytes += session.bytes;
    shared_bytes += session.shared_bytes;
    upload_bytes += session.upload_bytes;
  }
};

struct ServerReport {
  std::string device;
  uint64_t up_ns = 0;
  bool draining = false;
  std::string policy = {};
  Runner::Load load = {};
  std::vector<SessionReport> sessions;  // oldest first
  std::vector<TenantReport> tenants;    // by name; also those that have no session any more
  std::vector<PlanReport> plans = {};   // the most used first
  ArtifactStats artifacts;
  TierReport tiers;
  uint64_t queued_jobs = 0;  // received and not ended
  Refusals refusals = {};
  LockstepStats lockstep = {};
};

}  // namespace djinn::server
