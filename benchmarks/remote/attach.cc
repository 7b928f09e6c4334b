// SPDX-License-Identifier: Apache-2.0
// A second attach: another process loads a model that the server has, and asks for its first token.
#include <ATen/Parallel.h>

#include "benchmarks/harness/socket_bytes.h"
#include "benchmarks/remote/bench.h"
#include "examples/generation.h"

namespace djinn::benchmarks {
namespace {

using examples::Decoder;
using examples::KvKind;
using examples::Llama;

constexpr std::array<int64_t, 8> kPrompt{1, 4093, 198, 2683, 359, 253, 5356, 5646};
constexpr int64_t kPositions = 64;

double first_token(const Llama& model) {
  return seconds_of([&] {
    Decoder decoder(model, KvKind::kCat, kPositions);
    decoder.start(kPrompt);
    (void)decoder.token().item<int64_t>();
  });
}

}  // namespace

void measure_attach(Bench& bench) {
  const auto first = run_part(bench, "attach");  // It brings the weights, if nobody has.
  Samples bytes{.arm = "bytes of weights that the second process sent"};
  Samples time{.arm = "first token - its compute"};
  const int rounds = std::max(3, bench.rounds / 2);
  std::vector<double> socket;
  for (int i = 0; i < rounds; ++i) {
    const auto child = run_part(bench, "attach");
    bytes.value.push_back(child.at("weight_bytes").get<double>());
    time.value.push_back(child.at("overhead_ms").get<double>());
    socket.push_back(child.at("socket_sent").get<double>());
    bytes.n = child.at("shared_bytes");
    ++time.n;
  }
  const Promise none{.id = "second_attach_bytes", .unit = "B", .must = 0, .aim = 0};
  const Promise soon{.id = "second_attach_ms", .unit = "ms", .must = 100, .aim = 50};
  bench.report.add({judge(none, bytes)});
  bench.report.add({judge(soon, time)});
  bench.report.note("second attach: " + std::to_string(static_cast<uint64_t>(median(socket))) +
                    " B at the socket up to the first token (names of weights, plans); the first "
                    "process hashed " +
                    first.at("hashed_bytes").dump() + " B");
}

int attach_child(const Bench& bench) {
  at::set_num_threads(1);
  const auto start = Clock::now();
  bench.connect(true);
  const Llama model = Llama::load(bench.model, at::Device("djinn"));
  first_token(model);
  const double total = seconds_since(start);
  const Stats stats = djinn::stats();
  const SocketBytes socket = socket_bytes(port_of(bench.server.c_str()));
  // The same again, in a session that knows everything: what of it is compute, and the prompt's
  // bytes.
  std::vector<double> compute(3);
  for (double& seconds : compute) seconds = first_token(model);
  const uint64_t prompt_bytes = (djinn::stats().upload_bytes - stats.upload_bytes) / compute.size();
  const nlohmann::json line = {{"overhead_ms", (total - median(compute)) * 1e3},
                               {"compute_ms", median(compute) * 1e3},
                               {"weight_bytes", stats.upload_bytes - prompt_bytes},
                               {"shared_bytes", stats.shared_bytes},
                               {"hashed_bytes", stats.hashed_bytes},
                               {"socket_sent", socket.sent}};
  std::printf("%s\n", line.dump().c_str());
  return 0;
}

}  // namespace djinn::benchmarks
