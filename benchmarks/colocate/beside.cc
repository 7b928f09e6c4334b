// SPDX-License-Identifier: Apache-2.0
// A tenant whose requests take a quarter of the device, beside one that trains all the time: what
// each has of it, over what it has alone.
#include <chrono>
#include <thread>

#include "benchmarks/colocate/bench.h"
#include "benchmarks/colocate/training.h"
#include "benchmarks/harness/statistics.h"

namespace djinn::benchmarks {
namespace {

constexpr size_t kUrgent = 0;
constexpr size_t kTraining = 1;
constexpr double kLoad = 0.25;  // of the device, by the requests
constexpr uint32_t kSessionsMax = 32;
constexpr uint64_t kWarmPlays = 20;
constexpr std::chrono::seconds kAlone{3};  // how long the training is measured by itself

constexpr const char* kConfig = "device-memory = \"512MiB\"\nhost-memory = \"1GiB\"\n";

// What the two had while both were there; for one alone, of that one.
struct Had {
  trace::Tally requests = {};
  double load = 0;  // of the device, by the requests
  double epochs_per_s = 0;
  double floor_s = 0;  // the training's longest operator: none is interrupted
  Trained trained = {};
};

class Scene {
 public:
  explicit Scene(ColocateBench& bench)
      : bench_(bench),
        ours_(bench.scratch, "semantic", kConfig),
        fcfs_(bench.scratch, "fcfs", kConfig) {
    warm_up(fcfs_);
    request_s_ = warm_up(ours_);
  }

  [[nodiscard]] const House& ours() const { return ours_; }
  [[nodiscard]] const House& fcfs() const { return fcfs_; }
  // What one takes of the device.
  [[nodiscard]] double request_s() const { return request_s_; }
  [[nodiscard]] uint64_t requests() const { return bench_.quick ? 30 : 150; }
  [[nodiscard]] double tail() const { return bench_.quick ? 0.95 : 0.99; }

  // The same moments for the same seed.
  Had requests(const House& house, uint64_t seed) {
    const trace::Load load{.parts = {{.trace = &bench_.traces.of("assist"),
                                      .token = kTenants[kUrgent],
                                      .sessions = kSessionsMax,
                                      .rate = kLoad / request_s_,
                                      .plays = requests()}},
                           .seed = seed};
    const double before = house.use().used_s[kUrgent];
    const trace::Outcome outcome = house.play(load);
    return {.requests = outcome.parts.front(),
            .load = (house.use().used_s[kUrgent] - before) / outcome.seconds};
  }

  Had beside(const House& house, uint64_t seed) {
    Training training(bench_.scratch, house, kTraining);
    const double from = seconds_now();
    Had had = requests(house, seed);
    const double to = seconds_now();
    had.floor_s = house.longest_operator_s();  // The server forgets plans that nobody has.
    settle();
    had.trained = training.end();
    had.epochs_per_s = had.trained.epochs_per_s(from, to);
    return had;
  }

  Had training(const House& house) {
    Training training(bench_.scratch, house, kTraining);
    const double from = seconds_now();
    std::this_thread::sleep_for(kAlone);
    const double to = seconds_now();
    settle();
    Had had{.trained = training.end()};
    had.epochs_per_s = had.trained.epochs_per_s(from, to);
    return had;
  }

 private:
  // So that the training's last epoch lies behind what was measured.
  static void settle() { std::this_thread::sleep_for(std::chrono::milliseconds(500)); }

  // What is needed once is there then. What a request takes of the device; seconds.
  double warm_up(const House& house) {
    return house.seconds_per_play(
        {.trace = &bench_.traces.of("assist"), .token = kTenants[kUrgent], .plays = kWarmPlays});
  }

  ColocateBench& bench_;
  House ours_;
  House fcfs_;
  double request_s_ = 0;
};

struct Figures {
  Samples first{.arm = "first token"};
  Samples per_token{.arm = "per token"};
  Samples training{.arm = "training"};
  Samples fcfs{.arm = "first token"};
  Samples losses{.arm = "training"};
  std::vector<double> alone_ms, shared_ms, fcfs_ms, load, alone_token_ms, shared_token_ms,
      fcfs_token_ms, alone_epochs, shared_epochs, fcfs_epochs, floor_ms;
};

void measure(Scene& scene, uint64_t seed, Figures& out) {
  const double tail = scene.tail();
  const Had alone = scene.requests(scene.ours(), seed);
  const Had shared = scene.beside(scene.ours(), seed);
  const Had again = scene.requests(scene.ours(), seed);
  const Had fcfs = scene.beside(scene.fcfs(), seed);
  const Had trained = scene.training(scene.ours());
  const Had trained_again = scene.training(scene.ours());
  const auto ratio = [&](Samples& samples, trace::Latencies trace::Tally::*figure, double share) {
    const double before = (alone.requests.*figure).percentile(share);
    const double after = (again.requests.*figure).percentile(share);
    samples.value.push_back(2 * (shared.requests.*figure).percentile(share) / (before + after));
    samples.null.push_back(after / before);
    samples.n += scene.requests();
  };
  ratio(out.first, &trace::Tally::first_answer, tail);
  ratio(out.per_token, &trace::Tally::per_answer, tail);
  const double left = (trained.epochs_per_s + trained_again.epochs_per_s) / 2 * (1 - shared.load);
  out.training.value.push_back(shared.epochs_per_s / left);
  out.training.null.push_back(trained_again.epochs_per_s / trained.epochs_per_s);
  out.training.n += shared.trained.losses.size();
  out.fcfs.value.push_back(fcfs.requests.first_answer.percentile(tail) /
                           shared.requests.first_answer.percentile(tail));
  out.fcfs.null.push_back(out.first.null.back());
  out.fcfs.n += scene.requests();
  out.losses.value.push_back(static_cast<double>(different_losses(trained.trained, shared.trained) +
                                                 different_losses(trained.trained, fcfs.trained)));
  out.losses.n += shared.trained.losses.size();
  out.alone_ms.push_back(alone.requests.first_answer.percentile(tail));
  out.shared_ms.push_back(shared.requests.first_answer.percentile(tail));
  out.fcfs_ms.push_back(fcfs.requests.first_answer.percentile(tail));
  out.alone_token_ms.push_back(alone.requests.per_answer.percentile(tail));
  out.shared_token_ms.push_back(shared.requests.per_answer.percentile(tail));
  out.fcfs_token_ms.push_back(fcfs.requests.per_answer.percentile(tail));
  out.load.push_back(shared.load);
  out.floor_ms.push_back(shared.floor_s * 1e3);
  out.alone_epochs.push_back(trained.epochs_per_s);
  out.shared_epochs.push_back(shared.epochs_per_s);
  out.fcfs_epochs.push_back(fcfs.epochs_per_s);
}

void add(ColocateBench& bench, const Scene& scene, const Figures& figures) {
  const std::string tail = bench.quick ? "P95" : "P99";
  bench.report.add({judge({.id = "G1.1 " + tail + " to the first token, shared over alone",
                           .unit = "ratio",
                           .must = 1.2,
                           .aim = 1.05},
                          figures.first)});
  bench.report.add({judge({.id = "G1.2 " + tail + " of time per token, shared over alone",
                           .unit = "ratio",
                           .must = 1.1,
                           .aim = 1.05},
                          figures.per_token)});
  bench.report.add({judge({.id = "G1.3 training over what the requests leave",
                           .unit = "ratio",
                           .better = Better::kHigher,
                           .must = 0.9,
                           .aim = 0.97},
                          figures.training)});
  bench.report.add({judge({.id = "G1.5 " + tail + " to the first token, fcfs over ours",
                           .unit = "ratio",
                           .better = Better::kHigher,
                           .must = 3,
                           .aim = 10},
                          figures.fcfs)});
  bench.report.add({judge({.id = "G1.9 losses that are not those of the training alone",
                           .unit = "epochs",
                           .must = 0,
                           .aim = 0},
                          figures.losses)});
  const auto three = [](const std::vector<double>& alone, const std::vector<double>& shared,
                        const std::vector<double>& fcfs) {
    return text_of(median(alone)) + " alone, " + text_of(median(shared)) + " shared, " +
           text_of(median(fcfs)) + " with fcfs";
  };
  bench.report.note(
      "beside: a request takes " + text_of(scene.request_s() * 1e3) +
      " ms of the device, all of them " + text_of(median(figures.load)) + " of it; " + tail +
      " to the first token in ms: " + three(figures.alone_ms, figures.shared_ms, figures.fcfs_ms));
  bench.report.note("beside: " + tail + " of ms per token: " +
                    three(figures.alone_token_ms, figures.shared_token_ms, figures.fcfs_token_ms) +
                    "; epochs per second: " +
                    three(figures.alone_epochs, figures.shared_epochs, figures.fcfs_epochs));
  bench.report.note("beside: no operator is interrupted; the longest took " +
                    text_of(median(figures.floor_ms)) + " ms");
}

}  // namespace

void measure_beside(ColocateBench& bench) {
  Scene scene(bench);
  Figures figures;
  Rounds rounds(bench.rounds);
  rounds.run([&](int round) { measure(scene, static_cast<uint64_t>(round) + 1, figures); });
  bench.report.count(rounds);
  add(bench, scene, figures);
}

}  // namespace djinn::benchmarks
