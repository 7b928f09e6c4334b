// SPDX-License-Identifier: Apache-2.0
// djinn-trace: what a program's session says to a server, recorded once and played by many.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "serialization/base/limits.h"
#include "trace/driver.h"
#include "trace/record.h"
#include "trace/results.h"
#include "trace/trace.h"

namespace djinn::trace {
namespace {

constexpr const char* kAbout =
    "Records what a program's session says to a djinn-server, and plays it again from any number\n"
    "of sessions, without LibTorch. docs/traces.md says what a trace holds.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  djinn-trace record --connect tcp://127.0.0.1:7800 -o decode.trace -- \\\n"
    "      generate --device djinn --prompt Hi --max-new-tokens 24 --ignore-eos\n"
    "  djinn-trace replay decode.trace --connect tcp://127.0.0.1:7800 --sessions 8 --plays 16\n"
    "  djinn-trace replay a.trace b.trace --connect tcp://host:7800 --rate 5 --seconds 60 --json\n"
    "  djinn-trace show decode.trace\n"
    "Exit status of record: the program's, or 125 if there is no trace; of replay: 0 if every "
    "play\n"
    "came to its end with the answers that were recorded, 1 if one did not, 2 if none could "
    "begin.\n";
constexpr int kNoTrace = 125;
constexpr int kNoPlay = 2;

struct Arguments {
  std::string server;
  std::string out;
  std::vector<std::string> program;
  std::vector<std::string> traces;
  std::vector<std::string> tokens;
  uint32_t sessions = 1;
  uint64_t plays = 0;
  double rate = 0;
  uint32_t deadline_ms = 0;
  double seconds = 0;
  uint32_t active = 0;
  uint32_t turn = Load{}.turn;
  uint32_t warm = 1;
  uint64_t seed = 1;
  bool no_compare = false;
  bool json = false;
};

int complain(const std::string& text, int status) {
  std::fprintf(stderr, "djinn-trace: %s\n", text.c_str());
  return status;
}

int run_record(const Arguments& arguments) {
  const auto address = transport::parse_address(arguments.server);
  if (!address) return complain(address.error().message, kNoTrace);
  const auto recorded = record(*address, arguments.out, arguments.program);
  if (!recorded) return complain(recorded.error().message, kNoTrace);
  std::fprintf(stderr, "djinn-trace: %s holds %llu records; the program ended with %d\n",
               arguments.out.c_str(), static_cast<unsigned long long>(recorded->records),
               recorded->status);
  return recorded->status;
}

Result<std::vector<Trace>> open_all(const std::vector<std::string>& paths) {
  std::vector<Trace> traces;
  for (const std::string& path : paths) {
    DJINN_TRY(auto trace, Trace::open(path));
    traces.push_back(std::move(trace));
  }
  return traces;
}

// Each trace once per token.
Load load_of(const Arguments& arguments, const std::vector<Trace>& traces) {
  Load load{.seconds = arguments.seconds,
            .active = arguments.active,
            .turn = arguments.turn,
            .compare = !arguments.no_compare,
            .seed = arguments.seed};
  std::vector<std::string> tokens = arguments.tokens;
  if (tokens.empty()) tokens.emplace_back();
  for (const Trace& trace : traces) {
    for (const std::string& token : tokens) {
      load.parts.push_back({.trace = &trace,
                            .token = token,
                            .sessions = arguments.sessions,
                            .rate = arguments.rate,
                            .plays = arguments.plays > 0     ? arguments.plays
                                     : arguments.seconds > 0 ? UINT64_MAX
                                                             : arguments.sessions,
                            .deadline_ms = arguments.deadline_ms});
    }
  }
  return load;
}

// So that the server has the weights, and memory that was touched, before anything is counted.
Result<> warm_up(const Load& load, uint32_t plays) {
  for (const Part& part : load.parts) {
    Load alone{.server = load.server, .parts = {part}, .compare = load.compare};
    alone.parts[0].sessions = 1;
    alone.parts[0].rate = 0;
    alone.parts[0].deadline_ms = 0;
    alone.parts[0].plays = plays;
    DJINN_TRY(const Outcome outcome, drive(alone));
    const Tally& tally = outcome.parts[0];
    if (!tally.errors.empty()) return Error{tally.errors.begin()->first, tally.first_error};
  }
  return Unit{};
}

int run_replay(const Arguments& arguments) {
  const auto address = transport::parse_address(arguments.server);
  if (!address) return complain(address.error().message, kNoPlay);
  const auto traces = open_all(arguments.traces);
  if (!traces) return complain(traces.error().message, kNoPlay);
  Load load = load_of(arguments, *traces);
  load.server = *address;
  if (const auto warm = warm_up(load, arguments.warm); !warm) {
    return complain("warming up: " + warm.error().message, kNoPlay);
  }
  const auto outcome = drive(load);
  if (!outcome) return complain(outcome.error().message, kNoPlay);
  std::vector<std::string> names;
  for (const std::string& path : arguments.traces) {
    for (size_t i = 0; i < load.parts.size() / arguments.traces.size(); ++i) {
      names.push_back(arguments.tokens.size() > 1 ? path + "#" + std::to_string(i) : path);
    }
  }
  const std::string text =
      arguments.json ? to_json(*outcome, names).dump() + "\n" : to_text(*outcome, names);
  std::fputs(text.c_str(), stdout);
  return all_right(*outcome) ? 0 : 1;
}

int run_show(const Arguments& arguments) {
  const auto traces = open_all(arguments.traces);
  if (!traces) return complain(traces.error().message, kNoPlay);
  for (size_t i = 0; i < traces->size(); ++i) {
    const Trace& trace = (*traces)[i];
    std::printf("%s: %s with LibTorch %s\n", arguments.traces[i].c_str(),
                std::string(trace.hello().app).c_str(),
                std::string(trace.hello().libtorch).c_str());
    std::printf("  %u jobs, %zu frames, %zu answers, %.1f MB of artifacts\n", trace.jobs(),
                trace.said().size(), trace.answers().size(),
                static_cast<double>(trace.artifact_bytes()) * 1e-6);
  }
  return 0;
}

void add_record(CLI::App& app, Arguments& arguments) {
  app.add_option("--connect", arguments.server, "The server that the program is to use")
      ->envname("DJINN_SERVER")
      ->required();
  app.add_option("-o,--out", arguments.out, "File of the trace")->required();
  app.add_option("program", arguments.program,
                 "Program and arguments, behind --. It must take its server from DJINN_SERVER")
      ->required();
}

void add_replay(CLI::App& app, Arguments& arguments) {
  app.add_option("traces", arguments.traces, "Files of traces, played side by side")->required();
  app.add_option("--connect", arguments.server, "The server")->envname("DJINN_SERVER")->required();
  app.add_option("--sessions", arguments.sessions, "Of each trace and token, at most")
      ->check(CLI::Range(1U, 100'000U))
      ->capture_default_str();
  app.add_option("--plays", arguments.plays,
                 "Of each trace and token, in total (default: one per session, or, with "
                 "--seconds, as many as there is time for)")
      ->check(CLI::PositiveNumber);
  app.add_option("--seconds", arguments.seconds, "Ends then; what is not finished is cut off")
      ->check(CLI::PositiveNumber);
  auto* const rate =
      app.add_option("--rate", arguments.rate,
                     "Plays per second that fall due, of each trace and token, at random moments "
                     "(default: a session begins its next play when it has ended one)")
          ->check(CLI::PositiveNumber);
  app.add_option(
         "--deadline", arguments.deadline_ms,
         "Milliseconds that each job has from when the server gets it; a play ends with the "
         "first that cannot be met")
      ->check(CLI::Range(1U, kDeadlineMsMax));
  app.add_option("--active", arguments.active,
                 "So many of all sessions go on at a time, in turns, when all are connected")
      ->check(CLI::PositiveNumber)
      ->excludes(rate);
  app.add_option("--turn", arguments.turn, "Answers after which an active session rests")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--token", arguments.tokens,
                 "A tenant's token; may be repeated, each plays every trace");
  app.add_option("--warm-up", arguments.warm,
                 "Plays of each trace and token before anything is counted, one after another")
      ->capture_default_str();
  app.add_option("--seed", arguments.seed, "Of the moments of --rate")->capture_default_str();
  app.add_flag("--no-compare", arguments.no_compare,
               "Do not compare answers with those that were recorded, bit by bit");
  app.add_flag("--json", arguments.json, "Print one JSON object");
}

int run(int argc, char** argv) {
  CLI::App app(kAbout, "djinn-trace");
  app.footer(kExamples);
  app.set_version_flag("--version", std::string("djinn-trace ") + DJINN_VERSION);
  Arguments arguments;
  auto* const record = app.add_subcommand("record", "Run a program and write its session's trace");
  auto* const replay = app.add_subcommand("replay", "Play traces from many sessions");
  auto* const show = app.add_subcommand("show", "Say what is in a trace");
  add_record(*record, arguments);
  add_replay(*replay, arguments);
  show->add_option("traces", arguments.traces, "Files of traces")->required();
  app.require_subcommand(1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e, std::cout, std::cerr) == 0 ? 0 : kNoPlay;
  }
  if (record->parsed()) return run_record(arguments);
  return replay->parsed() ? run_replay(arguments) : run_show(arguments);
}

}  // namespace
}  // namespace djinn::trace

int main(int argc, char** argv) {
  try {
    return djinn::trace::run(argc, argv);
  } catch (const std::exception& e) {  // Of CLI11 and the standard library.
    std::fprintf(stderr, "djinn-trace: %s\n", e.what());
    return 2;
  }
}
