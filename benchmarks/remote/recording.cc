// SPDX-License-Identifier: Apache-2.0
// Recording: what it costs the app to say a step of many tiny operators, beside running them.
//
// Until flush() returns: capture, shapes, plan, numbers, and the message handed to the kernel. The
// server runs the steps meanwhile, on another core if there is one; that they have ended is waited
// for outside of the time.
#include <ATen/Parallel.h>

#include "benchmarks/remote/bench.h"
#include "examples/generation.h"

namespace djinn::benchmarks {
namespace {

using examples::Decoder;
using examples::KvKind;
using examples::Llama;
using examples::LlamaConfig;

constexpr int kSteps = 8;  // Of one turn; fewer than a server lets be in flight.
constexpr int kTurns = 4;
constexpr int kWarmTurns = 3;
constexpr std::array<int64_t, 4> kPrompt{1, 2, 3, 4};

double eager_turn(Decoder& decoder) {
  return seconds_of([&] {
    for (int i = 0; i < kSteps; ++i) decoder.advance();
  });
}

double recorded_turn(Decoder& decoder) {
  const double seconds = seconds_of([&] {
    for (int i = 0; i < kSteps; ++i) {
      decoder.advance();
      djinn::flush();
    }
  });
  (void)decoder.token().item<int64_t>();
  return seconds;
}

Goal measure(Bench& bench, const Promise& promise, const std::string& arm, KvKind kv) {
  const auto config = LlamaConfig::tiny();
  const Llama local = Llama::random(config, 1, at::kCPU);
  const Llama remote = Llama::random(config, 1, at::Device("djinn"));
  Samples samples{.arm = arm};
  std::vector<double> per_op;
  Rounds rounds(bench.rounds);
  rounds.run([&](int) {
    // A sequence of its own, so that every round has the same lengths.
    const int64_t length = std::ssize(kPrompt) + int64_t{kSteps} * (kTurns + kWarmTurns) + 1;
    Decoder eager(local, kv, length);
    Decoder null(local, kv, length);
    Decoder recorded(remote, kv, length);
    for (Decoder* each : {&eager, &null, &recorded}) each->start(kPrompt);
    double eager_s = 0;
    double null_s = 0;
    double recorded_s = 0;
    uint64_t ops = 0;
    for (int turn = 0; turn < kWarmTurns + kTurns; ++turn) {
      const bool counts = turn >= kWarmTurns;
      const double a = eager_turn(eager);
      const uint64_t before = djinn::stats().ops_recorded;
      const double b = recorded_turn(recorded);
      ops += counts ? djinn::stats().ops_recorded - before : 0;
      const double c = eager_turn(null);
      eager_s += counts ? a : 0;
      recorded_s += counts ? b : 0;
      null_s += counts ? c : 0;
    }
    samples.value.push_back(recorded_s / ((eager_s + null_s) / 2));
    samples.null.push_back(null_s / eager_s);
    samples.n += uint64_t{kSteps} * kTurns;
    per_op.push_back(recorded_s / static_cast<double>(ops) * 1e6);
  });
  bench.report.note("recording " + arm + ": " + std::to_string(median(per_op)).substr(0, 5) +
                    " us per operator");
  bench.report.count(rounds);
  return judge(promise, samples);
}

}  // namespace

void measure_recording(Bench& bench) {
  at::set_num_threads(1);
  bench.connect(true);
  const at::NoGradGuard no_grad;
  const Promise promise{.id = "record_cost_ratio", .unit = "ratio", .must = 1.1, .aim = 0.8};
  bench.report.add({measure(bench, promise, "cat", KvKind::kCat),
                    measure(bench, promise, "static", KvKind::kStatic)});
}

}  // namespace djinn::benchmarks
