// SPDX-License-Identifier: Apache-2.0
// Models larger than the device: what a step takes, over what compute and transfer must take, and
// what it takes where pages come when they are touched.
//
// The limit of a layer is the longer of its compute (a share of the step on a device that holds
// the whole model) and its transfer (its bytes over the link), both measured in the same round.
#include <algorithm>
#include <stdexcept>

#include <ATen/ATen.h>

#include "benchmarks/memory/bench.h"
#include "benchmarks/memory/layers.h"

namespace djinn::benchmarks {
namespace {

constexpr double kEmulatedRate = 1.2e9;  // what memory reads here, over 28: a GPU's own relation
constexpr double kPagedOver = 6;

struct Arm {
  const char* name;
  double over;  // model / device; 0: it holds all
  const char* policy = "plan";
};

// What is compared in one set of rounds. The first arm holds the whole model.
struct Scene {
  const char* name;
  std::vector<Arm> arms;
  double link_rate = 0;
  std::vector<uint64_t> pages = {};  // arms of demand paging, by what a fault brings
};

std::vector<std::vector<std::string>> server_arguments(const Scene& scene) {
  std::vector<std::vector<std::string>> all;
  for (const Arm& arm : scene.arms) {
    std::vector<std::string>& arguments = all.emplace_back();
    if (arm.over == 0) continue;
    arguments = {"--device-memory", mebibytes(kLayers * kLayerBytes / arm.over + (1 << 20)),
                 "--memory-policy", arm.policy};
    if (scene.link_rate > 0) {
      arguments.insert(arguments.end(),
                       {"--link-rate", std::to_string(static_cast<int64_t>(scene.link_rate))});
    }
  }
  return all;
}

struct Round {
  std::vector<double> seconds;  // of each arm's step
  std::vector<double> paged;
  double null = 0;   // the resident arm once more
  double layer = 0;  // transfer of one
};

struct Measured {
  const Scene& scene;
  int64_t batch = 0;
  std::vector<Round> rounds = {};
};

// Steps of all arms in turn, the second of two each: the first finds what the others' steps left in
// the caches.
void run_rounds(OomBench& bench, const at::Tensor& x, const std::vector<Model>& models,
                const std::vector<std::unique_ptr<PagedLayers>>& paged, LayerLink& link,
                Measured& out) {
  const auto second_step = [&](const Model& model, const at::Device& device) {
    (void)step(x, model, device);
    return step(x, model, device);
  };
  for (size_t arm = 0; arm < models.size(); ++arm) second_step(models[arm], Servers::device(arm));
  Rounds rounds(bench.rounds);
  rounds.run([&](int) {
    Round round{.seconds = {}, .paged = {}, .layer = link.layer_seconds()};
    for (size_t arm = 0; arm < models.size(); ++arm) {
      round.seconds.push_back(second_step(models[arm], Servers::device(arm)));
    }
    for (const auto& each : paged) round.paged.push_back(step(x, each->layers(), at::kCPU));
    round.null = second_step(models[0], Servers::device(0));
    out.rounds.push_back(std::move(round));
  });
  bench.report.count(rounds);
}

Measured measure(OomBench& bench, const Scene& scene) {
  const at::NoGradGuard no_grad;
  const Model here = random_layers();
  LayerLink link(scene.link_rate);
  Measured out{.scene = scene, .batch = batch_where_compute_is_transfer(here, link)};
  const Servers servers(server_arguments(scene));
  std::vector<Model> there(scene.arms.size());
  const at::Tensor x = at::randn({out.batch, kWidth});
  for (size_t arm = 0; arm < there.size(); ++arm) {
    for (const at::Tensor& weight : here) there[arm].push_back(weight.to(Servers::device(arm)));
    check(x, here, there[arm], Servers::device(arm));
  }
  std::vector<std::unique_ptr<PagedLayers>> paged;
  for (const uint64_t page : scene.pages) {
    const auto resident = static_cast<uint64_t>(kLayers * kLayerBytes / kPagedOver);
    paged.push_back(std::make_unique<PagedLayers>(here, resident, page));
    check(x, here, paged.back()->layers(), at::kCPU);
  }
  run_rounds(bench, x, there, paged, link, out);
  for (const auto& each : paged) {
    if (each->pager().evictions() == 0) throw std::runtime_error("demand paging evicted nothing");
  }
  return out;
}

template <typename Ratio>
Samples samples(const Measured& measured, const std::string& arm, const Ratio& ratio) {
  Samples out{.arm = arm};
  for (const Round& round : measured.rounds) {
    out.value.push_back(ratio(round));
    out.null.push_back(round.null / round.seconds[0]);
  }
  out.n = measured.rounds.size();
  return out;
}

size_t arm_named(const Scene& scene, std::string_view name) {
  const auto at = std::ranges::find(scene.arms, name, &Arm::name);
  if (at == scene.arms.end()) throw std::logic_error("no such arm: " + std::string(name));
  return static_cast<size_t>(at - scene.arms.begin());
}

Samples against_bound(const Measured& measured, size_t arm) {
  return samples(measured, measured.scene.arms[arm].name, [&](const Round& round) {
    return round.seconds[arm] / (kLayers * std::max(round.seconds[0] / kLayers, round.layer));
  });
}

Samples against_arm(const Measured& measured, const char* arm, const char* other) {
  const size_t above = arm_named(measured.scene, arm);
  const size_t below = arm_named(measured.scene, other);
  return samples(measured, other,
                 [&](const Round& round) { return round.seconds[above] / round.seconds[below]; });
}

void add_bound(OomBench& bench, const Measured& measured, const std::string& suffix) {
  const Promise bounded{
      .id = "G3.4 step over bound" + suffix, .unit = "ratio", .must = 1.2, .aim = 1.05};
  std::vector<Goal> goals;
  for (size_t arm = 1; arm < measured.scene.arms.size(); ++arm) {
    const bool overlaps = std::string_view(measured.scene.arms[arm].policy) == "plan";
    if (overlaps) goals.push_back(judge(bounded, against_bound(measured, arm)));
  }
  bench.report.add(std::move(goals));
}

void add_overlap(OomBench& bench, const Measured& measured, const std::string& suffix) {
  const Promise overlap{.id = "G3.5 on demand over overlapped" + suffix,
                        .unit = "ratio",
                        .better = Better::kHigher,
                        .must = 1.4,
                        .aim = 1.8};
  bench.report.add({judge(overlap, against_arm(measured, "6x, on demand", "6x"))});
}

// The rival is the granularity at which demand paging is fastest: the goal is its worst arm.
void add_paging(OomBench& bench, const Measured& measured) {
  const Promise paging{.id = "G3.6 demand paging over ours",
                       .unit = "ratio",
                       .better = Better::kHigher,
                       .must = 3,
                       .aim = 6};
  const size_t ours = arm_named(measured.scene, "6x");
  std::vector<Goal> goals;
  for (size_t i = 0; i < measured.scene.pages.size(); ++i) {
    const std::string arm = std::to_string(measured.scene.pages[i] / 1024) + " KiB a fault";
    goals.push_back(judge(paging, samples(measured, arm, [&](const Round& round) {
                            return round.paged[i] / round.seconds[ours];
                          })));
  }
  bench.report.add(std::move(goals));
}

void add_note(OomBench& bench, const Measured& measured) {
  std::vector<double> compute;
  std::vector<double> transfer;
  for (const Round& round : measured.rounds) {
    compute.push_back(round.seconds[0] / kLayers * 1e3);
    transfer.push_back(round.layer * 1e3);
  }
  const std::string link =
      measured.scene.link_rate > 0 ? "emulated link, 1.2 GB/s" : "link: native memcpy";
  bench.report.note(std::string(measured.scene.name) + ": " + std::to_string(kLayers) +
                    " layers of 16 MiB, batch " + std::to_string(measured.batch) +
                    "; a layer computes " + std::to_string(median(compute)).substr(0, 5) +
                    " ms and travels " + std::to_string(median(transfer)).substr(0, 5) +
                    " ms (device: cpu stand-in, " + link + ")");
}

}  // namespace

void measure_oversize(OomBench& bench) {
  const Scene scene{
      .name = "oversize",
      .arms = {{"resident", 0}, {"3x", 3}, {"6x", 6}, {"12x", 12}, {"6x, on demand", 6, "lru"}},
      // A page of 4 KiB a fault takes 30 times as long as the best does: not in a minute.
      .pages = bench.quick ? std::vector<uint64_t>{65536, 2 << 20}
                           : std::vector<uint64_t>{4096, 65536, 2 << 20}};
  const Measured measured = measure(bench, scene);
  add_bound(bench, measured, "");
  const Promise resident{
      .id = "G3.4b step over resident", .unit = "ratio", .must = 1.1, .aim = 1.03};
  bench.report.add({judge(resident, against_arm(measured, "12x", "resident"))});
  add_overlap(bench, measured, "");
  add_paging(bench, measured);
  add_note(bench, measured);
}

void measure_ladder(OomBench& bench) {
  const Scene scene{.name = "ladder",
                    .arms = {{"resident", 0},
                             {"0.73x", 0.73},
                             {"1.15x", 1.15},
                             {"1.45x", 1.45},
                             {"1.8x", 1.8},
                             {"2.17x", 2.17}}};
  const Measured measured = measure(bench, scene);
  add_bound(bench, measured, ", up to 2.17x");
  add_note(bench, measured);
}

void measure_emulated(OomBench& bench) {
  const Scene scene{.name = "emulated",
                    .arms = {{"resident", 0}, {"6x", 6}, {"6x, on demand", 6, "lru"}},
                    .link_rate = kEmulatedRate};
  const Measured measured = measure(bench, scene);
  add_bound(bench, measured, ", emulated link");
  add_overlap(bench, measured, ", emulated link");
  add_note(bench, measured);
}

}  // namespace djinn::benchmarks
