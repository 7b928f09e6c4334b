// SPDX-License-Identifier: Apache-2.0
// bench_remote: what it costs a program that its device is far away, as ratios to what is near.
#include <sys/wait.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <optional>
#include <stdexcept>

#include <ATen/Parallel.h>

#include "benchmarks/harness/machine.h"
#include "benchmarks/remote/bench.h"
#include "tests/support/server_process.h"

namespace djinn::benchmarks {
namespace {

struct Part {
  const char* name;
  void (*measure)(Bench&);
};
constexpr Part kParts[] = {{"decode", measure_decode},
                           {"round-trip", measure_round_trip},
                           {"recording", measure_recording},
                           {"upload", measure_upload},
                           {"attach", measure_attach}};

struct Arguments {
  std::string model = "models/smollm2-135m-instruct";
  std::string server;
  std::vector<std::string> only;
  std::string json;
  std::string child;
  std::string child_argument;
  int rounds = 0;
  bool quick = false;
  bool json_wanted = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  std::vector<std::string> names;
  for (const Part& part : kParts) names.emplace_back(part.name);
  app.add_option("--model", arguments.model, "Folder made by examples/convert_smollm2.py")
      ->capture_default_str();
  app.add_option(
      "--server", arguments.server,
      "tcp://127.0.0.1:port of a running server (default: one with --threads 1 is started)");
  app.add_option("--only", arguments.only, "Parts to measure (default: all)")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  app.add_option("--rounds", arguments.rounds,
                 "Rounds of interleaved arms (default 15; --quick: 5)")
      ->check(CLI::Range(3, 10'000));
  app.add_flag("--quick", arguments.quick, "Fewer rounds");
  app.add_flag("--json", arguments.json_wanted, "Print one JSON object and nothing else");
  app.add_option("--child", arguments.child)->group("");
  app.add_option("--child-argument", arguments.child_argument)->group("");
}

bool chosen(const Arguments& arguments, const std::string& part) {
  return arguments.only.empty() || std::ranges::find(arguments.only, part) != arguments.only.end();
}

int run(const Arguments& arguments) {
  Report report("bench_remote");
  Bench bench{.model = arguments.model,
              .server = arguments.server,
              .rounds = arguments.rounds > 0 ? arguments.rounds
                        : arguments.quick    ? 5
                                             : 15,
              .quick = arguments.quick,
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
  for (const Part& part : kParts) {
    if (!chosen(arguments, part.name)) continue;
    std::cerr << "bench_remote: " << part.name << " ..." << std::endl;
    part.measure(bench);
  }
  if (arguments.json_wanted) {
    std::cout << report.json().dump() << std::endl;
  } else {
    report.print(std::cout);
  }
  return report.passed() ? 0 : 1;
}

}  // namespace

nlohmann::json run_child(const Bench& bench, const std::string& part, const std::string& argument) {
  std::string command = testing::binary_folder() + "/bench_remote --child " + part + " --server " +
                        bench.server + " --model '" + bench.model.string() + "'";
  if (!argument.empty()) command += " --child-argument " + argument;
  std::FILE* const output = ::popen(command.c_str(), "r");  // NOLINT(cert-env33-c): our own binary.
  if (output == nullptr) throw std::runtime_error("cannot run " + command);
  std::string line(64 << 10, '\0');
  const bool said = std::fgets(line.data(), static_cast<int>(line.size()), output) != nullptr;
  if (::pclose(output) != 0 || !said) throw std::runtime_error("failed: " + command);
  return nlohmann::json::parse(line.c_str());
}

}  // namespace djinn::benchmarks

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): then it ends, loudly.
  CLI::App app(
      "What a remote device costs, as ratios measured in this run with interleaved arms.\n"
      "Exit status: 0 if every goal is PASS, 1 if one is not, 2 if it could not be measured.");
  djinn::benchmarks::Arguments arguments;
  djinn::benchmarks::add_options(app, arguments);
  CLI11_PARSE(app, argc, argv);
  try {
    return djinn::benchmarks::run(arguments);
  } catch (const std::exception& e) {
    std::cerr << "bench_remote: " << e.what() << std::endl;
    return 2;
  }
}
