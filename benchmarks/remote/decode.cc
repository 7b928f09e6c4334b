// SPDX-License-Identifier: Apache-2.0
// Decoding in pairs: one process holds the model twice, here and on the server, and generates a few
// tokens on each in turn: here, there, here, there. So every turn follows one of the other side,
// and finds the machine as that left it; the null arm is the second turn here over the first.
#include <array>
#include <atomic>
#include <stdexcept>

#include <ATen/Parallel.h>

#include "benchmarks/harness/socket_bytes.h"
#include "benchmarks/remote/bench.h"
#include "examples/generation.h"
#include "tests/support/relay.h"

namespace djinn::benchmarks {
namespace {

using examples::Decoder;
using examples::KvKind;
using examples::Llama;

constexpr int kSegmentTokens = 8;
constexpr int kWarmSegments = 3;
constexpr int kRoundsFactor = 2;  // A pair is noisier than what it is to show: a few percent.
// Of the model's own text; what it says does not matter, its length does.
constexpr std::array<int64_t, 16> kPrompt{1,    4093, 198, 2683,  359, 253,  5356, 5646,
                                          3365, 3511, 308, 34519, 28,  7018, 411,  407};

constexpr std::array kKinds{std::pair{"cat", KvKind::kCat}, std::pair{"static", KvKind::kStatic}};

struct Models {
  Llama local;
  Llama remote;
};

struct Bytes {
  std::vector<double> up;
  std::vector<double> down;
};

int64_t positions(int segments) {
  return static_cast<int64_t>(kPrompt.size()) + static_cast<int64_t>(segments) * kSegmentTokens + 1;
}

// Generates a segment as the example does: a token is read when the next step is on its way.
double segment(Decoder& decoder, std::vector<int64_t>& ids) {
  return seconds_of([&] {
    at::Tensor token;
    for (int i = 0; i < kSegmentTokens; ++i) {
      decoder.advance();
      if (token.defined()) ids.push_back(token.item<int64_t>());
      token = decoder.token();
    }
    ids.push_back(token.item<int64_t>());
  });
}

void per_token(Bytes& bytes, const SocketBytes& before, const SocketBytes& after) {
  bytes.up.push_back(static_cast<double>(after.sent - before.sent) / kSegmentTokens);
  bytes.down.push_back(static_cast<double>(after.received - before.received) / kSegmentTokens);
}

void require_equal(const std::vector<int64_t>& here, const std::vector<int64_t>& there,
                   const std::string& arm) {
  if (here != there) throw std::runtime_error(arm + ": the server's tokens are not the CPU's");
}

struct Pairs {
  Samples time;
  Bytes bytes = {};
};

Pairs measure_pairs(Bench& bench, const Models& models, const std::string& arm, KvKind kv) {
  const int count = kRoundsFactor * bench.rounds;
  const int64_t length = positions(kWarmSegments + 2 * count);
  Decoder local(models.local, kv, length);
  Decoder remote(models.remote, kv, length);
  std::vector<int64_t> here;
  std::vector<int64_t> there;
  for (Decoder* each : {&local, &remote}) each->start(kPrompt);
  for (int i = 0; i < kWarmSegments; ++i) {
    segment(local, here);
    segment(remote, there);
  }
  Pairs out{.time = {.arm = arm}};
  const uint16_t port = port_of(bench.server.c_str());
  const Stats before = djinn::stats();
  const ServerStats server_before = djinn::server_stats();
  Rounds rounds(count);
  const auto counted_segment = [&] {
    const SocketBytes sent = socket_bytes(port);
    const double seconds = segment(remote, there);
    per_token(out.bytes, sent, socket_bytes(port));
    return seconds;
  };
  rounds.run([&](int) {
    const double first_here = segment(local, here);
    const double first_there = counted_segment();
    const double second_here = segment(local, here);
    const double second_there = counted_segment();
    out.time.value.push_back((first_there + second_there) / (first_here + second_here));
    out.time.null.push_back(second_here / first_here);
  });
  out.time.n = static_cast<uint64_t>(2 * count) * kSegmentTokens;
  require_equal(here, there, arm);
  const double tokens = static_cast<double>(out.time.n);
  const auto calls = static_cast<double>(djinn::stats().system_calls - before.system_calls);
  const auto server_calls =
      static_cast<double>(djinn::server_stats().system_calls - server_before.system_calls);
  bench.report.note(arm + ": " + std::to_string(calls / tokens) + " system calls per token here, " +
                    std::to_string(server_calls / tokens) + " in the server (I/O threads)");
  bench.report.count(rounds);
  return out;
}

// The same bytes counted by who hands them on: a second opinion on what the kernel says. One
// segment is counted, those before it warm up.
void measure_by_relay(Bench& bench, std::vector<Goal>& up, std::vector<Goal>& down,
                      const Promise& up_promise, const Promise& down_promise) {
  std::atomic<uint64_t> up_bytes = 0;
  std::atomic<uint64_t> down_bytes = 0;
  const testing::Relay relay(bench.server, [&](testing::Relay::Way way, auto piece) {
    (way == testing::Relay::Way::kToServer ? up_bytes : down_bytes) += piece.size();
  });
  djinn::connect({.server = relay.address()});
  const Llama model = Llama::load(bench.model, at::Device("djinn"));
  for (const auto& [name, kv] : kKinds) {
    Decoder decoder(model, kv, positions(kWarmSegments + 2));
    std::vector<int64_t> ids;
    decoder.start(kPrompt);
    for (int i = 0; i <= kWarmSegments; ++i) segment(decoder, ids);
    const uint64_t sent = up_bytes;
    const uint64_t received = down_bytes;
    segment(decoder, ids);
    const auto add = [&, kind = name](std::vector<Goal>& goals, const Promise& promise,
                                      uint64_t bytes) {
      goals.push_back(judge(promise, {.arm = std::string("fp32/") + kind + ", counted by a relay",
                                      .value = {static_cast<double>(bytes) / kSegmentTokens},
                                      .null = {},
                                      .n = kSegmentTokens}));
    };
    add(up, up_promise, up_bytes - sent);
    add(down, down_promise, down_bytes - received);
  }
  bench.connect(true);  // Before the relay goes.
}

}  // namespace

void measure_decode(Bench& bench) {
  const Promise time{.id = "decode_time_ratio", .unit = "ratio", .must = 1.05, .aim = 1.0};
  const Promise up{.id = "bytes_up_per_token", .unit = "B", .must = 64, .aim = 64};
  const Promise down{.id = "bytes_down_per_token", .unit = "B", .must = 64, .aim = 64};
  const Promise plan{.id = "plan_bytes_per_op", .unit = "B", .must = 32, .aim = 16};
  std::vector<Goal> times;
  std::vector<Goal> ups;
  std::vector<Goal> downs;
  std::vector<Goal> plans;
  at::set_num_threads(1);
  for (const auto& [dtype_name, dtype] :
       {std::pair{"fp32", at::kFloat}, std::pair{"bf16", at::kBFloat16}}) {
    bench.connect(true);
    const Models models{.local = Llama::load(bench.model, at::kCPU, dtype),
                        .remote = Llama::load(bench.model, at::Device("djinn"), dtype)};
    for (const auto& [kind, kv] : kKinds) {
      const std::string arm = std::string(dtype_name) + "/" + kind;
      const Pairs pairs = measure_pairs(bench, models, arm, kv);
      times.push_back(judge(time, pairs.time));
      ups.push_back(
          judge(up, {.arm = arm, .value = pairs.bytes.up, .null = {}, .n = pairs.time.n}));
      downs.push_back(
          judge(down, {.arm = arm, .value = pairs.bytes.down, .null = {}, .n = pairs.time.n}));
    }
    const Stats stats = djinn::stats();
    plans.push_back(judge(plan, {.arm = dtype_name,
                                 .value = {static_cast<double>(stats.plan_bytes) /
                                           static_cast<double>(stats.plan_ops)},
                                 .null = {},
                                 .n = stats.plan_ops}));
  }
  measure_by_relay(bench, ups, downs, up, down);
  bench.report.add(std::move(times));
  bench.report.add(std::move(ups));
  bench.report.add(std::move(downs));
  bench.report.add(std::move(plans));
}

}  // namespace djinn::benchmarks
