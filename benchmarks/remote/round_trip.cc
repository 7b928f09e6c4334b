// SPDX-License-Identifier: Apache-2.0
// Round trips: one tiny operator and the number it made, beside 64 bytes that a blocking socket
// echoes. Where threads run decides what a hand-over costs, so it is fixed: both sides on one core,
// and on two.
#include <sched.h>

#include <filesystem>
#include <thread>

#include <ATen/ATen.h>

#include "benchmarks/harness/raw_peer.h"
#include "benchmarks/remote/bench.h"

namespace djinn::benchmarks {
namespace {

constexpr int kBatch = 50;  // Arms take turns this often within a round.
constexpr int kBatches = 20;

struct Trips {
  std::vector<double> raw, ours, null;
  void append(const Trips& other) {
    raw.insert(raw.end(), other.raw.begin(), other.raw.end());
    ours.insert(ours.end(), other.ours.begin(), other.ours.end());
    null.insert(null.end(), other.null.begin(), other.null.end());
  }
};

std::string microseconds(const std::vector<double>& seconds, double share) {
  return std::to_string(percentile(seconds, share) * 1e6).substr(0, 6) + " us";
}

// All threads of a process (0: the calling thread) on one core, or on any.
void pin(pid_t process, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int each = 0; each < CPU_SETSIZE; ++each) {
    if (core < 0 || each == core) CPU_SET(each, &set);
  }
  if (process == 0) {
    ::sched_setaffinity(0, sizeof set, &set);
    return;
  }
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(process) + "/task")) {
    ::sched_setaffinity(std::stoi(task.path().filename()), sizeof set, &set);
  }
}

// Who answers is on core `there`, in both arms; who asks is on core 0.
Goal measure(Bench& bench, const Promise& promise, const std::string& arm, int there) {
  RawPeer raw;
  raw.pin(there);
  pin(0, 0);
  pin(bench.server_pid, there);
  at::Tensor number = at::ones({1}, at::Device("djinn"));
  const auto trip = [&] {
    return seconds_of([&] {
      number.neg_();
      (void)number.item<float>();
    });
  };
  for (int i = 0; i < 200; ++i) {
    trip();
    raw.ping();
  }
  Samples samples{.arm = arm};
  Trips all;
  Rounds rounds(bench.rounds);
  rounds.run([&](int) {
    Trips trips;
    for (int batch = 0; batch < kBatches; ++batch) {
      for (int i = 0; i < kBatch; ++i) trips.raw.push_back(raw.ping());
      for (int i = 0; i < kBatch; ++i) trips.ours.push_back(trip());
      for (int i = 0; i < kBatch; ++i) trips.null.push_back(raw.ping());
    }
    samples.value.push_back(median(trips.ours) / median(trips.raw));
    samples.null.push_back(median(trips.null) / median(trips.raw));
    samples.n += uint64_t{kBatch} * kBatches;
    all.append(trips);
  });
  pin(0, -1);
  pin(bench.server_pid, -1);
  bench.report.note("round trip, " + arm + ": p50 " + microseconds(all.ours, 0.5) + ", p99 " +
                    microseconds(all.ours, 0.99) + "; raw p50 " + microseconds(all.raw, 0.5) +
                    ", p99 " + microseconds(all.raw, 0.99) + "; null p99 " +
                    microseconds(all.null, 0.99));
  bench.report.count(rounds);
  return judge(promise, samples);
}

}  // namespace

void measure_round_trip(Bench& bench) {
  if (bench.server_pid < 0 || std::thread::hardware_concurrency() < 2) {
    bench.report.note(
        "roundtrip_ratio_p50: not measured; it needs two cores and a server of its own");
    return;
  }
  bench.connect(true);
  const Promise promise{.id = "roundtrip_ratio_p50", .unit = "ratio", .must = 2.0, .aim = 1.3};
  bench.report.add(
      {measure(bench, promise, "on one core", 0), measure(bench, promise, "on two cores", 1)});
}

}  // namespace djinn::benchmarks
