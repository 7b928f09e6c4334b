// SPDX-License-Identifier: Apache-2.0
// bench_remote: what it costs a program that its device is far away, as ratios to what is near.
#include <optional>
#include <stdexcept>

#include <ATen/Parallel.h>

#include "benchmarks/harness/machine.h"
#include "benchmarks/harness/program.h"
#include "benchmarks/remote/bench.h"
#include "tests/support/server_process.h"

namespace djinn::benchmarks {
namespace {

constexpr Part<Bench> kParts[] = {{"decode", measure_decode},
                                  {"round-trip", measure_round_trip},
                                  {"recording", measure_recording},
                                  {"upload", measure_upload},
                                  {"attach", measure_attach}};

struct Arguments {
  std::string model = "models/smollm2-135m-instruct";
  std::string server;
  std::string child;
  std::string child_argument;
};

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("--model", arguments.model, "Folder made by examples/convert_smollm2.py")
      ->capture_default_str();
  app.add_option(
      "--server", arguments.server,
      "tcp://127.0.0.1:port of a running server (default: one with --threads 1 is started)");
  app.add_option("--child", arguments.child)->group("");
  app.add_option("--child-argument", arguments.child_argument)->group("");
}

int run(Program& program, const Arguments& arguments) {
  Report& report = program.report();
  Bench bench{.model = arguments.model,
              .server = arguments.server,
              .rounds = program.rounds(),
              .quick = program.quick(),
              .report = report};
  if (arguments.child == "attach") return attach_child(bench);
  if (arguments.child == "upload") return upload_child(bench, arguments.child_argument);
  if (!std::filesystem::exists(bench.model / "converted.json")) {
    throw std::runtime_error(bench.model.string() + " is not there: run ./dev setup");
  }
  std::optional<testing::ServerProcess> server;
  if (bench.server.empty()) {
    server.emplace(std::vector<std::string>{"--threads", "1", "--log-level", "warn"});
    bench.server = server->address();
    bench.server_pid = server->pid();
  }
  describe_machine(report);
  report.setting("rounds", bench.rounds);
  report.setting("threads", "1 here, 1 in the server");
  report.setting("link", "loopback TCP");
  program.measure<Bench>(kParts, bench);
  return program.finish();
}

int start(int argc, char** argv) {
  Program program(
      "bench_remote",
      "What a remote device costs, as ratios measured in this run with interleaved arms.",
      {.full = 15, .quick = 5});
  program.add_parts<Bench>(kParts);
  Arguments arguments;
  add_options(program.app(), arguments);
  return program.main(argc, argv, [&] { return run(program, arguments); });
}

}  // namespace

nlohmann::json run_part(const Bench& bench, const std::string& part, const std::string& argument) {
  std::string command = testing::binary_folder() + "/bench_remote --child " + part + " --server " +
                        bench.server + " --model '" + bench.model.string() + "'";
  if (!argument.empty()) command += " --child-argument " + argument;
  return run_child(command);
}

}  // namespace djinn::benchmarks

// NOLINTNEXTLINE(bugprone-exception-escape): then it ends, loudly.
int main(int argc, char** argv) { return djinn::benchmarks::start(argc, argv); }
