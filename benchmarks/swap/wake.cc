// SPDX-License-Identifier: Apache-2.0
// Agents that pause: each decodes a few tokens, thinks, and goes on; their caches together are
// three times the device. How long the first token behind a pause takes, where the program said
// when it would go on, and where it did not.
//
// Every agent has its own beat: its turns begin at fixed times, so that a late one has less time to
// think and no influence on when the others go on. What a step costs by itself comes from a server
// that holds all, in the same round; its tokens are what the others must say.
#include <array>
#include <optional>
#include <stdexcept>
#include <thread>

#include <ATen/ATen.h>

#include "benchmarks/harness/statistics.h"
#include "benchmarks/swap/bench.h"
#include "client/djinn.h"
#include "examples/generation.h"

namespace djinn::benchmarks {
namespace {

using examples::Decoder;
using examples::KvKind;
using examples::Llama;
using examples::LlamaConfig;

constexpr size_t kAgents = 6;
constexpr int kTurnTokens = 4;
constexpr double kSlot = 1.5;  // of a turn, until the next agent's turn begins

enum Arm : size_t { kStays, kHinted, kUnhinted, kArms };

LlamaConfig config() {
  return {.hidden = 256,
          .ffn = 512,
          .layers = 8,
          .heads = 4,
          .kv_heads = 4,
          .head_width = 64,
          .vocabulary = 512,
          .positions = 2048};
}
double cache_bytes() {
  const LlamaConfig c = config();
  return 2.0 * static_cast<double>(c.layers * c.kv_heads * c.head_width * c.positions) *
         sizeof(float);
}

std::array<int64_t, 8> prompt_of(size_t agent) {
  return {3, 1 + static_cast<int64_t>(agent), 4, 1, 5, 9, 2, 6};
}

struct Turn {
  double first = 0;               // seconds to the first token
  std::vector<double> rest = {};  // of the others
  std::vector<int64_t> tokens = {};
};

Turn take_turn(Decoder& decoder) {
  Turn out;
  for (int i = 0; i < kTurnTokens; ++i) {
    const double seconds = seconds_of([&] {
      decoder.advance();
      out.tokens.push_back(decoder.token().item<int64_t>());
    });
    if (i == 0) {
      out.first = seconds;
    } else {
      out.rest.push_back(seconds);
    }
  }
  return out;
}

// The agents of all arms, and how long a turn is.
struct Scene {
  const Servers& servers;
  std::vector<std::vector<Decoder>> agents;  // by arm
  std::vector<Llama> models = {};
  double turn_s = 0;

  [[nodiscard]] std::chrono::nanoseconds slot() const {
    return std::chrono::nanoseconds(static_cast<int64_t>(kSlot * turn_s * 1e9));
  }
};

// Turns of all agents on their beats, `turns` each; by agent, then turn. The first turn of each
// follows no pause and is left out.
std::vector<std::vector<Turn>> play(Scene& scene, Arm arm, int turns) {
  std::vector<std::vector<Turn>> out(kAgents);
  const auto start = Clock::now() + scene.slot();
  for (int turn = 0; turn <= turns; ++turn) {
    for (size_t agent = 0; agent < kAgents; ++agent) {
      const auto beat = static_cast<int64_t>(static_cast<size_t>(turn) * kAgents + agent);
      std::this_thread::sleep_until(start + beat * scene.slot());
      Turn taken = take_turn(scene.agents[arm][agent]);
      if (arm == kHinted) {
        const auto next = start + (beat + static_cast<int64_t>(kAgents)) * scene.slot();
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(next - Clock::now());
        const int device = scene.servers.device(arm, agent).index();
        hint(Phase::kDecode, turn == turns ? kSomeTime : left, Priority::kInteractive, device);
      }
      if (turn > 0) out[agent].push_back(std::move(taken));
    }
  }
  return out;
}

double p99_of_first_tokens(const std::vector<std::vector<Turn>>& turns) {
  std::vector<double> all;
  for (const auto& agent : turns) {
    for (const Turn& turn : agent) all.push_back(turn.first);
  }
  return percentile(all, 0.99);
}

double step_seconds(const std::vector<std::vector<Turn>>& turns) {
  std::vector<double> all;
  for (const auto& agent : turns) {
    for (const Turn& turn : agent) all.insert(all.end(), turn.rest.begin(), turn.rest.end());
  }
  return median(all);
}

void require_equal(const std::vector<std::vector<Turn>>& right,
                   const std::vector<std::vector<Turn>>& turns) {
  for (size_t agent = 0; agent < kAgents; ++agent) {
    for (size_t i = 0; i < right[agent].size(); ++i) {
      if (turns[agent][i].tokens == right[agent][i].tokens) continue;
      throw std::runtime_error("agent " + std::to_string(agent) +
                               " says other tokens than where all fits");
    }
  }
}

Scene make_scene(const Servers& servers, int64_t positions) {
  Scene scene{.servers = servers, .agents = std::vector<std::vector<Decoder>>(kArms)};
  scene.models.reserve(kArms * kAgents);
  for (size_t arm = 0; arm < kArms; ++arm) {
    for (size_t agent = 0; agent < kAgents; ++agent) {
      scene.models.push_back(Llama::random(config(), 7, servers.device(arm, agent)));
      scene.agents[arm].emplace_back(scene.models.back(), KvKind::kStatic, positions);
      scene.agents[arm].back().start(prompt_of(agent));
      (void)take_turn(scene.agents[arm].back());
    }
  }
  scene.turn_s = seconds_of([&] { (void)take_turn(scene.agents[kStays][0]); });
  for (size_t arm = kHinted; arm < kArms; ++arm) (void)take_turn(scene.agents[arm][0]);
  return scene;
}

}  // namespace

void measure_wake(SwapBench& bench) {
  const at::NoGradGuard no_grad;
  const int turns = bench.quick ? 5 : 17;
  const std::string budget = mebibytes(kAgents * cache_bytes() / 3 + (24 << 20));  // and weights
  const Servers servers({{}, {"--device-memory", budget}, {"--device-memory", budget}}, kAgents);
  Scene scene = make_scene(servers, config().positions);
  LayerLink link(0);
  Samples hinted{.arm = "hinted"};
  Samples unhinted{.arm = "unhinted"};
  std::vector<double> steps;
  std::vector<double> transfers;
  std::vector<double> wakes;
  Rounds rounds(bench.rounds);
  rounds.run([&](int) {
    const auto stays = play(scene, kStays, turns);
    const auto said = play(scene, kHinted, turns);
    const auto unsaid = play(scene, kUnhinted, turns);
    require_equal(stays, said);
    require_equal(stays, unsaid);
    const double step = step_seconds(stays);
    const double transfer = link.layer_seconds() * cache_bytes() / kLayerBytes;
    const double stays_p99 = p99_of_first_tokens(stays);
    hinted.value.push_back((p99_of_first_tokens(said) - step) * 1e3);
    unhinted.value.push_back((p99_of_first_tokens(unsaid) - stays_p99) / transfer);
    for (Samples* const each : {&hinted, &unhinted}) each->n += stays[0].size() * kAgents;
    steps.push_back(step * 1e3);
    transfers.push_back(transfer * 1e3);
    wakes.push_back((stays_p99 - step) * 1e3);
  });
  bench.report.count(rounds);
  const Promise with{.id = "wake with a hint: P99 - a step", .unit = "ms", .must = 5, .aim = 5};
  const Promise without{.id = "wake without a hint: P99 beyond where all fits, over transfer",
                        .unit = "ratio",
                        .must = 1.2,
                        .aim = 1.2};
  bench.report.add({judge(with, hinted)});
  bench.report.add({judge(without, unhinted)});
  bench.report.note("wake: " + std::to_string(kAgents) + " agents with caches of " +
                    mebibytes(cache_bytes()) + ", room for a third of them; a step takes " +
                    std::to_string(median(steps)).substr(0, 5) + " ms, a cache travels in " +
                    std::to_string(median(transfers)).substr(0, 5) +
                    " ms; where all fits, P99 behind a pause is a step and " +
                    std::to_string(median(wakes)).substr(0, 5) + " ms");
}

}  // namespace djinn::benchmarks
