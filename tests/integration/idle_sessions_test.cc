// SPDX-License-Identifier: Apache-2.0
// Agents that pause and resume: their caches together are three times the device, and each goes on
// exactly where it was.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "examples/generation.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

using examples::Decoder;
using examples::KvKind;
using examples::Llama;
using examples::LlamaConfig;
using namespace std::chrono_literals;

constexpr int kAgents = 6;
constexpr int64_t kPositions = 4096;

std::vector<int64_t> prompt_of(int agent) { return {3, 1 + agent, 4, 1, 5 + agent, 9, 2, 6}; }

// Tokens of some turns, each of several steps.
std::vector<int64_t> turn(Decoder& decoder, int steps) {
  std::vector<int64_t> tokens;
  for (int i = 0; i < steps; ++i) {
    tokens.push_back(decoder.token().item<int64_t>());
    decoder.advance();
  }
  return tokens;
}

class IdleSessions : public ::testing::TestWithParam<bool> {};

TEST_P(IdleSessions, WhoseCachesDoNotFitTogetherAllResumeWithTheSameTokens) {
  at::set_num_threads(1);
  LlamaConfig config = LlamaConfig::tiny();
  config.positions = kPositions;
  const int64_t cache_bytes =
      2 * config.layers * config.kv_heads * config.head_width * kPositions * int64_t{sizeof(float)};
  const std::string device_memory = std::to_string((kAgents * cache_bytes / 3 >> 20) + 1) + "MiB";
  const ServerProcess server({"--threads", "1", "--device-memory", device_memory});
  std::string addresses = server.address();
  for (int i = 1; i < kAgents; ++i) addresses += "," + server.address();
  connect({.server = addresses});

  const Llama here = Llama::random(config, 7, at::kCPU);
  std::vector<Llama> models;
  std::vector<Decoder> local;
  std::vector<Decoder> remote;
  models.reserve(kAgents);
  for (int i = 0; i < kAgents; ++i) {
    models.push_back(Llama::random(config, 7, at::Device("djinn:" + std::to_string(i))));
    local.emplace_back(here, KvKind::kStatic, kPositions);
    remote.emplace_back(models.back(), KvKind::kStatic, kPositions);
    local.back().start(prompt_of(i));
    remote.back().start(prompt_of(i));
  }
  for (int round = 0; round < 3; ++round) {
    for (size_t agent = 0; agent < kAgents; ++agent) {
      const int device = static_cast<int>(agent);
      if (GetParam()) hint(Phase::kDecode, 0ms, Priority::kInteractive, device);
      EXPECT_EQ(turn(remote[agent], 6), turn(local[agent], 6))
          << "agent " << agent << " in round " << round;
      if (GetParam()) hint(Phase::kDecode, 20ms, Priority::kInteractive, device);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Hints, IdleSessions, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "said" : "absent"; });

}  // namespace
}  // namespace djinn::testing
