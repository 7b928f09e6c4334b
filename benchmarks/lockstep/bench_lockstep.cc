// SPDX-License-Identifier: Apache-2.0
// bench_lockstep: tenants that decode with the same weights, together and one after another.
//
// Two servers hold the model: one runs every job alone, the other up to sixteen together. A tenant
// is a session with its own prompt, of its own length, driven by its own thread; it reads a token
// when the next step is on its way. The null arm is the second turn one after another over the
// first.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include <ATen/Parallel.h>

#include "benchmarks/harness/machine.h"
#include "benchmarks/harness/program.h"
#include "benchmarks/lockstep/tenant.h"
#include "benchmarks/memory/servers.h"
#include "client/djinn.h"
#include "server/ctl/ask.h"

namespace djinn::benchmarks {
namespace {

using examples::Decoder;
using examples::KvKind;
using examples::Llama;

constexpr size_t kTenantsMax = 16;
enum Arm : size_t { kAlone, kTogether };

struct Arguments {
  std::filesystem::path model = "models/smollm2-135m-instruct";
  std::vector<size_t> tenants;
  std::string kv = "cat";
  int rounds = 0;
  int tokens = 48;  // of a tenant's turn, of all together: it begins and ends with some alone
};

struct Must {
  size_t tenants = 0;
  double must = 0;
  double aim = 0;
};
constexpr std::array kMusts{Must{2, 0.95, 1.0}, Must{4, 2.5, 4}, Must{8, 2.75, 6}, Must{16, 4, 9}};

transport::Address admin() {
  return {.kind = transport::Address::Kind::kUnix,
          .host = "/tmp/djinn-lockstep-" + std::to_string(getpid()) + ".sock"};
}

struct Counts {
  double groups = 0;
  double jobs = 0;
  double operators = 0;
  double held_s = 0;
};
Counts counts() {
  const auto page = ctl::get(admin(), "/plans", std::chrono::seconds(10));
  if (!page) throw std::runtime_error(page.error().message);
  const auto all = nlohmann::json::parse(*page).at("lockstep");
  return {.groups = all.at("groups"),
          .jobs = all.at("jobs"),
          .operators = all.at("operators"),
          .held_s = all.at("held_seconds")};
}

class Bench {
 public:
  Bench(const Arguments& arguments, Report& report)
      : arguments_(arguments),
        report_(report),
        servers_({{}, {"--lockstep", "16", "--admin", admin().text()}},
                 *std::ranges::max_element(arguments.tenants)) {
    for (const Arm arm : {kAlone, kTogether}) {
      for (size_t i = 0; i < *std::ranges::max_element(arguments.tenants); ++i) {
        models_[arm].push_back(Llama::load(arguments.model, servers_.device(arm, i)));
        // What is not verified yet would be sent again, and not be shared.
        djinn::synchronize(servers_.device(arm, i).index());
        if (i == 0) std::this_thread::sleep_for(std::chrono::seconds(3));
      }
    }
  }

  std::vector<Goal> measure(size_t count) {
    const auto target = std::ranges::find(kMusts, count, &Must::tenants);
    const Promise promise{.id = "lockstep K=" + std::to_string(count) + ": tokens/s over in turn",
                          .unit = "ratio",
                          .better = Better::kHigher,
                          .must = target == kMusts.end() ? 1.0 : target->must,
                          .aim = target == kMusts.end() ? 1.0 : target->aim};
    std::array<std::vector<Tenant>, 2> tenants{seat(kAlone, count), seat(kTogether, count)};
    in_turn(tenants[kAlone]);
    together(tenants[kTogether]);
    const Counts before = counts();
    Samples samples{.arm = "fp32/" + arguments_.kv};
    std::vector<double> token_ms;
    std::vector<double> alone_ms;
    Rounds rounds(arguments_.rounds);
    rounds.run([&](int) {
      const double first = in_turn(tenants[kAlone]);
      const double joined = together(tenants[kTogether]);
      const double second = in_turn(tenants[kAlone]);
      // Tokens per second of all tenants.
      const double alone = 2 * static_cast<double>(tokens_in_turn(count)) / (first + second);
      samples.value.push_back(arguments_.tokens / joined / alone);
      samples.null.push_back(second / first);
      token_ms.push_back(joined * 1e3 / arguments_.tokens);
      alone_ms.push_back(1e3 / alone / static_cast<double>(count));
    });
    samples.n = static_cast<uint64_t>(arguments_.rounds * arguments_.tokens) * count;
    report_.count(rounds);
    report_.note("K=" + std::to_string(count) + ": a step of all takes " +
                 std::to_string(percentile(token_ms, 0.5)) + " ms, one alone " +
                 std::to_string(percentile(alone_ms, 0.5)) + "; " + told(before, counts()));
    compare(tenants);
    return {judge(promise, samples)};
  }

  // What a tenant gets does not depend on who else is there, as far as its tokens go.
  void check(size_t count, int tokens) {
    std::array<std::vector<Tenant>, 2> tenants{seat(kAlone, count), seat(kTogether, count)};
    std::vector<double> largest(count);
    std::vector<std::vector<at::Tensor>> logits(count);
    const auto run = [&](Arm arm, const auto& see) {
      std::vector<std::jthread> threads;
      for (size_t i = 0; i < count; ++i) {
        threads.emplace_back([&, i] {
          at::set_num_threads(1);
          Tenant& tenant = tenants[arm][i];
          for (int t = 0; t < tokens; ++t) {
            tenant.decoder.advance();
            see(i, static_cast<size_t>(t), tenant.decoder.logits().cpu());
            tenant.ids.push_back(tenant.decoder.token().item<int64_t>());
          }
        });
      }
    };
    run(kAlone, [&](size_t i, size_t, const at::Tensor& row) { logits[i].push_back(row); });
    run(kTogether, [&](size_t i, size_t t, const at::Tensor& row) {
      largest[i] = std::max(largest[i], (row - logits[i][t]).abs().max().item<double>());
    });
    compare(tenants);
    report_.note(std::to_string(count) + " tenants, " + std::to_string(tokens) +
                 " tokens each: all as alone; largest difference of a logit " +
                 std::to_string(*std::ranges::max_element(largest)));
  }

 private:
  static std::string told(const Counts& before, const Counts& after) {
    const double groups = after.groups - before.groups;
    return std::to_string(groups) + " groups of " +
           std::to_string((after.jobs - before.jobs) / std::max(groups, 1.0)) + " jobs, " +
           std::to_string((after.operators - before.operators) / std::max(groups, 1.0)) +
           " shared operators each; the device was held for " +
           std::to_string(after.held_s - before.held_s) + " s";
  }

  std::vector<Tenant> seat(Arm arm, size_t count) {
    std::vector<Tenant> out;
    for (size_t i = 0; i < count; ++i) {
      const KvKind kv = arguments_.kv == "cat" ? KvKind::kCat : KvKind::kStatic;
      out.push_back({.decoder = Decoder(models_[arm][i], kv, 1024)});
      out.back().decoder.start(prompt_of(i));
    }
    return out;
  }

  // Alone a token takes the same time whoever else waits, so fewer of each will do.
  [[nodiscard]] int tokens_in_turn(size_t count) const {
    return std::max(6, arguments_.tokens / static_cast<int>(count));
  }

  double in_turn(std::vector<Tenant>& tenants) {
    return seconds_of([&] {
      for (Tenant& tenant : tenants) tenant.turn(tokens_in_turn(tenants.size()));
    });
  }

  double together(std::vector<Tenant>& tenants) {
    return seconds_of([&] {
      std::vector<std::jthread> threads;
      threads.reserve(tenants.size());
      for (Tenant& tenant : tenants) {
        threads.emplace_back([&] {
          at::set_num_threads(1);
          tenant.turn(arguments_.tokens);
        });
      }
    });
  }

  static void compare(const std::array<std::vector<Tenant>, 2>& tenants) {
    for (size_t i = 0; i < tenants[kAlone].size(); ++i) {
      const auto& alone = tenants[kAlone][i].ids;
      const auto& joined = tenants[kTogether][i].ids;
      const auto count = static_cast<std::ptrdiff_t>(std::min(alone.size(), joined.size()));
      if (!std::equal(alone.begin(), alone.begin() + count, joined.begin())) {
        throw std::runtime_error("tenant " + std::to_string(i) + " got other tokens than alone");
      }
    }
  }

  const Arguments& arguments_;
  Report& report_;
  Servers servers_;
  std::array<std::vector<Llama>, 2> models_;
};

int run(Program& program, Arguments arguments) {
  at::set_num_threads(1);
  if (!std::filesystem::exists(arguments.model / "converted.json")) {
    throw std::runtime_error(arguments.model.string() + " is not there: run ./dev setup");
  }
  arguments.rounds = program.rounds();
  if (program.quick()) arguments.tokens = 24;
  if (arguments.tenants.empty()) {
    arguments.tenants =
        program.quick() ? std::vector<size_t>{2, 4} : std::vector<size_t>{2, 4, 8, 16};
  }
  Report& report = program.report();
  describe_machine(report);
  report.setting("rounds", arguments.rounds);
  report.setting("tokens of a turn", arguments.tokens);
  report.setting("threads", "1 per tenant here, 1 in each server");
  Bench bench(arguments, report);
  for (const size_t count : arguments.tenants) {
    std::cerr << "bench_lockstep: " << count << " tenants ..." << std::endl;
    report.add(bench.measure(count));
  }
  bench.check(std::min<size_t>(4, *std::ranges::max_element(arguments.tenants)),
              program.quick() ? 16 : 128);
  return program.finish();
}

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("--model", arguments.model, "Folder made by examples/convert_smollm2.py")
      ->capture_default_str();
  app.add_option("--tenants", arguments.tenants,
                 "How many at a time (default: 2,4,8,16; --quick: 2,4)")
      ->delimiter(',')
      ->check(CLI::Range(size_t{1}, kTenantsMax));
  app.add_option("--kv", arguments.kv, "How the cache is kept")
      ->check(CLI::IsMember({"cat", "static"}))
      ->capture_default_str();
}

int start(int argc, char** argv) {
  Program program("bench_lockstep",
                  "Tenants that decode with the same weights, together over one after another:\n"
                  "ratios measured in this run with interleaved arms.",
                  {.full = 9, .quick = 3});
  Arguments arguments;
  add_options(program.app(), arguments);
  return program.main(argc, argv, [&] { return run(program, arguments); });
}

}  // namespace
}  // namespace djinn::benchmarks

// NOLINTNEXTLINE(bugprone-exception-escape): then it ends, loudly.
int main(int argc, char** argv) { return djinn::benchmarks::start(argc, argv); }
