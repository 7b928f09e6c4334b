// SPDX-License-Identifier: Apache-2.0
// fairness_tenant KIND: the programs of the tenants of bench_fairness and bench_colocate, recorded
// once and played by many.
//
//   request  a prompt of 8 tokens and 8 tokens behind it, each read when it is there
//   chat     the same, and 128 tokens
//   assist   a request of a wider model: some milliseconds a token on one core
//   score    one job: eight products of 384 x 384, one behind the other, and one number of the last
//   tiny     2,000 jobs of one operator over 16 numbers
//   huge     four products that no server can split, about 0.1 s each on one core
//   hog      as many tensors of 8 MiB as fit into 320 MiB, all kept
//   wide     a tensor of 8 MiB, read eight times
// A plain LibTorch program, whose device is a server.
#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <ATen/Parallel.h>

#include "client/djinn.h"
#include "examples/generation.h"
#include "examples/program.h"

namespace djinn::benchmarks {
namespace {

using examples::Decoder;
using examples::KvKind;
using examples::Llama;
using examples::LlamaConfig;

constexpr int64_t kBlock = 8 << 18;  // floats: 8 MiB

at::Device device() { return at::Device("djinn"); }
at::TensorOptions floats() { return at::TensorOptions(at::kFloat).device(device()); }

void decode(int64_t heads, int64_t tokens) {
  const LlamaConfig config{.hidden = 64 * heads,
                           .ffn = 128 * heads,
                           .layers = 4,
                           .heads = heads,
                           .kv_heads = heads,
                           .head_width = 64,
                           .vocabulary = 512,
                           .positions = 256};
  const Llama model = Llama::random(config, 7, device());
  Decoder decoder(model, KvKind::kCat, config.positions);
  decoder.start(std::array<int64_t, 8>{3, 1, 4, 1, 5, 9, 2, 6});
  for (int64_t i = 0; i < tokens; ++i) {
    (void)decoder.token().item<int64_t>();
    decoder.advance();
  }
  (void)decoder.token().item<int64_t>();
}

void tiny() {
  at::Tensor sum = at::zeros({16}, floats());
  for (int i = 0; i < 2000; ++i) {
    sum = sum + 1;
    djinn::flush();
  }
  (void)sum.sum().item<float>();
}

void huge() {
  const at::Tensor a = at::full({1536, 1536}, 1e-3, floats());
  for (int i = 0; i < 4; ++i) (void)at::mm(a, a).sum().item<float>();
}

void hog() {
  std::vector<at::Tensor> kept;
  for (int i = 0; i < 40; ++i) {
    kept.push_back(at::full({kBlock}, i, floats()));
    (void)kept.back().narrow(0, 0, 1).item<float>();
  }
}

void score() {
  const at::Tensor weights = at::full({384, 384}, 1.0 / 384, floats());
  at::Tensor x = at::ones({384, 384}, floats());
  for (int i = 0; i < 8; ++i) x = at::mm(x, weights);
  (void)x.sum().item<float>();
}

void wide() {
  const at::Tensor block = at::ones({kBlock}, floats());
  for (int i = 0; i < 8; ++i) (void)block.cpu();
}

int run(int argc, char** argv) {
  const std::map<std::string, std::function<void()>> kinds{{"request", [] { decode(4, 8); }},
                                                           {"chat", [] { decode(4, 128); }},
                                                           {"assist", [] { decode(8, 8); }},
                                                           {"score", score},
                                                           {"tiny", tiny},
                                                           {"huge", huge},
                                                           {"hog", hog},
                                                           {"wide", wide}};
  const auto kind = kinds.find(argc == 2 ? argv[1] : "");
  if (kind == kinds.end()) {
    std::fputs("fairness_tenant: see the top of tenant.cc\n", stderr);
    return 2;
  }
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  kind->second();
  return 0;
}

}  // namespace
}  // namespace djinn::benchmarks

int main(int argc, char** argv) {
  return djinn::examples::run_program("fairness_tenant",
                                      [&] { return djinn::benchmarks::run(argc, argv); });
}
