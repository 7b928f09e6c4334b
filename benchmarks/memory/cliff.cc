// SPDX-License-Identifier: Apache-2.0
// Where memory ends: the largest batch that a training step can have with the same budget, eagerly
// on LibTorch and on a server that moves what it does not need; and what a sample takes there.
//
// The naive arm is a process of its own whose CPU allocator has the budget: LibTorch as people use
// it. Both arms run the same function. Batches double until one is refused, then the cliff is
// found by bisection.
#include "benchmarks/memory/cliff.h"

#include <cmath>
#include <cstdio>
#include <optional>
#include <stdexcept>

#include <ATen/ATen.h>

#include "benchmarks/harness/program.h"
#include "benchmarks/memory/bench.h"
#include "server/torch/cpu_memory.h"

namespace djinn::benchmarks {
namespace {

constexpr int64_t kBudgetMib = 96;
constexpr int64_t kBatchMax = 256;  // the ladder's end

struct Attempt {
  bool fits = false;
  double loss = 0;
  double seconds = 0;  // the faster of two steps
  uint64_t peak_bytes = 0;
};

Attempt attempt(FeedForward& model, int64_t batch) {
  Attempt made;
  try {
    made.loss = model.step(batch);
    made.seconds = seconds_of([&] { model.step(batch); });
    made.fits = true;
  } catch (const c10::OutOfMemoryError&) {
    model.drop_gradients();
  }
  return made;
}

Attempt naive(int64_t batch) {
  const std::string command =
      testing::binary_folder() + "/bench_oom --child naive --batch " + std::to_string(batch);
  const nlohmann::json json = run_child(command);
  return {.fits = json.at("fits"),
          .loss = json.at("loss"),
          .seconds = json.at("seconds"),
          .peak_bytes = json.at("peak_bytes")};
}

// The largest batch that fits, by `fits`, or one that is less by 1 / `part` of it at most; 0: not
// even one.
template <typename Fits>
int64_t cliff(int64_t part, const Fits& fits) {
  int64_t good = 0;
  int64_t bad = 1;
  while (bad <= kBatchMax && fits(bad)) {
    good = bad;
    bad *= 2;
  }
  if (bad > kBatchMax) return good;
  while (bad - good > 1 + good / part) {
    const int64_t middle = (good + bad) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

}  // namespace

void measure_cliff(OomBench& bench) {
  const Servers servers({{"--device-memory", std::to_string(kBudgetMib) + "MiB"}});
  FeedForward ours(Servers::device(0));
  const int64_t part = bench.quick ? 8 : kBatchMax + 1;
  const int64_t naive_batch = cliff(part, [](int64_t batch) { return naive(batch).fits; });
  int64_t our_batch = cliff(part, [&](int64_t batch) { return attempt(ours, batch).fits; });
  int refused = 0;  // Near the edge, what was moved before can decide whether a step fits.
  if (naive_batch == 0 || our_batch == 0) throw std::runtime_error("no batch fits");
  Samples times{.arm = "at each one's largest batch"};
  Rounds rounds(std::max(3, bench.rounds / 3));
  rounds.run([&](int) {
    const Attempt theirs = naive(naive_batch);
    Attempt mine = attempt(ours, our_batch);
    for (; !mine.fits; mine = attempt(ours, our_batch)) {
      ++refused;
      our_batch -= std::max<int64_t>(1, our_batch / 8);
    }
    const Attempt same = attempt(ours, naive_batch);
    const Attempt again = naive(naive_batch);
    if (!theirs.fits || !again.fits || !same.fits) {
      throw std::runtime_error("a batch that fitted is refused: " + std::to_string(naive_batch));
    }
    if (std::abs(same.loss - theirs.loss) > 1e-5 * std::abs(theirs.loss)) {
      throw std::runtime_error("the arms' losses differ: " + std::to_string(same.loss) + " and " +
                               std::to_string(theirs.loss));
    }
    times.value.push_back(mine.seconds / static_cast<double>(our_batch) /
                          (theirs.seconds / static_cast<double>(naive_batch)));
    times.null.push_back(again.seconds / theirs.seconds);
    ++times.n;
  });
  bench.report.count(rounds);
  const Promise batch{.id = "G3.1 largest batch, ours over naive",
                      .unit = "ratio",
                      .better = Better::kHigher,
                      .must = 4,
                      .aim = 16};
  bench.report.add(
      {judge(batch, {.arm = "training step, " + std::to_string(kBudgetMib) + " MiB",
                     .value = {static_cast<double>(our_batch) / static_cast<double>(naive_batch)},
                     .null = {},
                     .n = 1})});
  const Promise time{.id = "G3.1 time per sample there", .unit = "ratio", .must = 1.25, .aim = 1};
  bench.report.add({judge(time, times)});
  bench.report.note("cliff: the largest batch of " + std::to_string(FeedForward::kSequence) +
                    " tokens is " + std::to_string(naive_batch) + " naively and " +
                    std::to_string(our_batch) +
                    (our_batch == kBatchMax ? " (the ladder's end)" : "") + " with tiers (after " +
                    std::to_string(refused) + " refusals near the edge), in " +
                    std::to_string(kBudgetMib) + " MiB");
}

int naive_child(int64_t batch) {
  server::CpuMemory& memory = server::CpuMemory::instance();
  memory.set_budget(static_cast<uint64_t>(kBudgetMib) << 20);
  Attempt made;
  try {
    FeedForward model(at::kCPU);
    made = attempt(model, batch);
  } catch (const c10::OutOfMemoryError&) {
  }
  const nlohmann::json line = {{"fits", made.fits},
                               {"loss", made.loss},
                               {"seconds", made.seconds},
                               {"peak_bytes", memory.usage().peak}};
  std::printf("%s\n", line.dump().c_str());
  return 0;
}

}  // namespace djinn::benchmarks
