// SPDX-License-Identifier: Apache-2.0
// Round trips: one tiny operator and the number it made, beside 64 bytes that a blocking socket
// echoes.
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

}  // namespace

void measure_round_trip(Bench& bench) {
  bench.connect(true);
  RawPeer raw;
  at::Tensor number = at::zeros({1}, at::Device("djinn"));
  const auto trip = [&] {
    return seconds_of([&] {
      number.add_(1);
      (void)number.item<float>();
    });
  };
  for (int i = 0; i < 200; ++i) {
    trip();
    raw.ping();
  }
  Samples samples{.arm = "flush and fetch / raw ping-pong of 64 B"};
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
    samples.n += kBatch * kBatches;
    all.append(trips);
  });
  const Promise promise{.id = "roundtrip_ratio_p50", .unit = "ratio", .must = 2.0, .aim = 1.3};
  bench.report.add({judge(promise, samples)});
  bench.report.note("round trip p50 " + microseconds(all.ours, 0.5) + ", p99 " +
                    microseconds(all.ours, 0.99) + "; raw p50 " + microseconds(all.raw, 0.5) +
                    ", p99 " + microseconds(all.raw, 0.99) + "; null p99 " +
                    microseconds(all.null, 0.99));
  bench.report.count(rounds);
}

}  // namespace djinn::benchmarks
