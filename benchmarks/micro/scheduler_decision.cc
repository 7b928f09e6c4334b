// SPDX-License-Identifier: Apache-2.0
// scheduler_decision: what it costs to choose a job, with 10,000 of 1,000 tenants waiting (G8.3).
//
// A decision is take, charge, yield: all that happens under the runner's lock between two chunks,
// and the queue stays as full as it was. Each is timed by itself. The program fails if a decision
// allocates, or if the P99 of any policy is above what is promised.
//
//   scheduler_decision [--json FILE]

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "benchmarks/harness/report.h"
#include "benchmarks/harness/statistics.h"
#include "scheduler/scheduler.h"

namespace {
std::atomic<uint64_t> allocations = 0;
}  // namespace

void* operator new(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* const memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t /*bytes*/) noexcept { std::free(memory); }

namespace djinn::sched {
namespace {

constexpr uint64_t kTenants = 1000;
constexpr uint64_t kSessionsPerTenant = 5;
constexpr uint64_t kJobsPerSession = 2;
constexpr int kDecisionsPerRound = 50'000;
constexpr int kRounds = 5;

uint64_t clock_ns() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

void fill(Scheduler& scheduler, std::mt19937_64& random) {
  for (uint64_t i = 0; i < kTenants * kSessionsPerTenant; ++i) {
    const SessionId session{i + 1};
    scheduler.open(session, "tenant-" + std::to_string(i % kTenants));
    for (uint64_t job = 0; job < kJobsPerSession; ++job) {
      const uint64_t arrived_ns = random() % 1'000'000;
      scheduler.add(session,
                    {.arrived_ns = arrived_ns,
                     .expected_ns = random() % 20'000'000,
                     .deadline_ns = random() % 2 == 0 ? kNever : arrived_ns + random() % 10'000'000,
                     .move_ns = random() % 1'000'000,
                     .wanted = static_cast<Class>(random() % kClasses)},
                    arrived_ns);
    }
  }
}

struct Measured {
  benchmarks::Samples p99_us;
  std::vector<double> p50_us;
  uint64_t allocations = 0;
};

Measured measure(const std::string& policy) {
  std::mt19937_64 random(1);
  Scheduler scheduler(make_policy(policy).value());
  fill(scheduler, random);
  Measured out{.p99_us = {.arm = policy}, .p50_us = {}, .allocations = 0};
  uint64_t now_ns = 1'000'000;
  std::vector<double> times;
  times.reserve(kDecisionsPerRound);
  for (int round = 0; round < kRounds; ++round) {
    times.clear();
    const uint64_t allocations_before = allocations;
    for (int i = 0; i < kDecisionsPerRound; ++i) {
      const uint64_t used_ns = random() % 1'000'000;
      const uint64_t begin_ns = clock_ns();
      const auto turn = scheduler.take(now_ns);
      scheduler.charge(*turn.session, used_ns);
      scheduler.yield(*turn.session, now_ns + used_ns);
      times.push_back(static_cast<double>(clock_ns() - begin_ns) / 1e3);
      now_ns += used_ns;
    }
    out.allocations += allocations - allocations_before;
    out.p99_us.value.push_back(benchmarks::percentile(times, 0.99));
    out.p50_us.push_back(benchmarks::median(times));
    out.p99_us.n += kDecisionsPerRound;
  }
  return out;
}

int run(const char* json_file) {
  benchmarks::Report report("scheduler_decision");
  report.setting("tenants", kTenants);
  report.setting("queued_jobs", kTenants * kSessionsPerTenant * kJobsPerSession);
  std::vector<benchmarks::Goal> arms;
  uint64_t allocated = 0;
  for (const std::string& policy : policy_names()) {
    const Measured measured = measure(policy);
    allocated += measured.allocations;
    arms.push_back(benchmarks::judge(
        {.id = "G8.3", .unit = "us", .better = benchmarks::Better::kLower, .must = 10, .aim = 2},
        measured.p99_us));
    report.note(policy + ": median " + std::to_string(benchmarks::median(measured.p50_us)) +
                " us, " + std::to_string(measured.allocations) + " allocations");
  }
  report.add(std::move(arms));
  report.print(std::cout);
  if (json_file != nullptr) std::ofstream(json_file) << report.json().dump(2) << "\n";
  if (allocated > 0) std::cout << "FAIL: decisions allocated " << allocated << " times\n";
  return report.passed() && allocated == 0 ? 0 : 1;
}

}  // namespace
}  // namespace djinn::sched

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): then it ends, loudly.
  const bool json = argc == 3 && std::string(argv[1]) == "--json";
  if (argc > 1 && !json) {
    std::fprintf(stderr, "usage: scheduler_decision [--json FILE]\n");
    return 2;
  }
  return djinn::sched::run(json ? argv[2] : nullptr);
}
