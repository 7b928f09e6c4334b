// SPDX-License-Identifier: Apache-2.0
// Uploads of 500 MB: beside a raw stream of the same bytes, without and with sharing, and how often
// user space copied them on the way.
#include <ATen/ATen.h>

#include "benchmarks/harness/large_copies.h"
#include "benchmarks/harness/raw_peer.h"
#include "benchmarks/remote/bench.h"
#include "client/session/hash_cache.h"
#include "tests/support/server_process.h"

namespace djinn::benchmarks {
namespace {

constexpr int64_t kFloats = 125'000'000;  // 500 MB

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

double upload(const at::Tensor& tensor) {
  at::Tensor there;
  const double seconds = seconds_of([&] {
    there = tensor.to("djinn");
    djinn::synchronize();
  });
  there.reset();
  djinn::synchronize();  // The server has freed it.
  return seconds;
}

Goal measure(Bench& bench, const Promise& promise, bool share, at::Tensor& source, RawPeer& raw) {
  bench.connect(share);
  Samples samples{.arm = share ? "sharing on, / 1 / (1/stream + 1/hash)" : "sharing off, / stream"};
  std::vector<double> rates;
  Rounds rounds(std::max(3, bench.rounds / 3));
  for (int i = 0; i < 3; ++i) {
    source[1] = static_cast<float>(i + (share ? 10 : 0));
    raw.stream(bytes_of(source));
    upload(source);
  }
  rounds.run([&](int round) {
    source[0] = static_cast<float>(round) + (share ? 0.5F : 0.0F);  // Nobody has had these bytes.
    const double stream = raw.stream(bytes_of(source));
    const double ours = upload(source);
    const double null = raw.stream(bytes_of(source));
    const double hash = share ? seconds_of([&] { (void)client::sha256(bytes_of(source)); }) : 0;
    samples.value.push_back(((stream + null) / 2 + hash) / ours);
    samples.null.push_back(stream / null);
    samples.n += source.nbytes();
    rates.push_back(static_cast<double>(source.nbytes()) / ours / 1e9);
  });
  bench.report.note(samples.arm + ": " + std::to_string(median(rates)).substr(0, 5) + " GB/s");
  bench.report.count(rounds);
  return judge(promise, samples);
}

// Against a server with room for two such tensors: what it keeps makes room for what comes, so that
// after the first few its memory has been touched before, as the raw peer's was. (The first touch
// of memory new to a virtual machine costs several times the transfer.)
void measure_rate(Bench& bench, const Promise& rate) {
  testing::ServerProcess server({"--threads", "1", "--device-memory", "1100MiB", "--memory-policy",
                                 "none", "--log-level", "warn"});
  Bench small{.model = bench.model,
              .server = server.address(),
              .rounds = bench.rounds,
              .quick = bench.quick,
              .report = bench.report};
  RawPeer raw(kFloats * sizeof(float));
  at::Tensor source = at::rand({kFloats});
  bench.report.add(
      {measure(small, rate, false, source, raw), measure(small, rate, true, source, raw)});
}

}  // namespace

void measure_upload(Bench& bench) {
  const Promise rate{.id = "upload_rate_ratio",
                     .unit = "ratio",
                     .better = Better::kHigher,
                     .must = 0.8,
                     .aim = 0.95};
  measure_rate(bench, rate);
  // A server and a client whose copies are counted.
  const LargeCopies copies;
  copies.preload(true);
  testing::ServerProcess server({"--threads", "1", "--log-level", "warn"});
  const Bench counted{.model = bench.model,
                      .server = server.address(),
                      .rounds = bench.rounds,
                      .quick = bench.quick,
                      .report = bench.report};
  const auto child = run_part(counted, "upload", copies.file());
  copies.preload(false);
  const Promise none{.id = "upload_user_copies", .unit = "copies", .must = 0, .aim = 0};
  bench.report.add({judge(none, {.arm = "copies of 64 KiB and more, client and server",
                                 .value = {child.at("copies").get<double>()},
                                 .null = {},
                                 .n = child.at("bytes")})});
  bench.report.note("the counter saw " + child.at("control").dump() +
                    " copies where there was one (a clone of 1 MiB)");
}

int upload_child(const Bench& bench, const std::string& counters) {
  const LargeCopyView view(counters);
  const at::Tensor source = at::rand({kFloats});
  const uint64_t before_control = view.calls();
  const std::vector<char> from(size_t{1} << 20, 'x');
  const std::vector<char> to = from;  // NOLINT(performance-unnecessary-copy-initialization)
  const uint64_t control = view.calls() - before_control;
  uint64_t seen = 0;
  uint64_t counted = 0;
  for (const bool share : {false, true}) {
    bench.connect(share);
    djinn::synchronize();
    const uint64_t before = view.calls();
    upload(source);
    seen += view.calls() - before;
    counted += djinn::stats().copied_bytes;
  }
  nlohmann::json line = {{"copies", seen},
                         {"control", control},
                         {"counted_bytes", counted},
                         {"bytes", 2 * source.nbytes()}};
  std::printf("%s\n", line.dump().c_str());
  return 0;
}

}  // namespace djinn::benchmarks
