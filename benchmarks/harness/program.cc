// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/harness/program.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <utility>

namespace djinn::benchmarks {

Program::Program(std::string name, const std::string& about, RoundsDefault rounds)
    : name_(std::move(name)),
      rounds_default_(rounds),
      app_(about +
           "\nExit status: 0 if every goal is PASS, 1 if one is not, 2 if it could not be "
           "measured."),
      report_(name_) {
  app_.add_option("--rounds", rounds_,
                  "Rounds of interleaved arms (default " + std::to_string(rounds.full) +
                      "; --quick: " + std::to_string(rounds.quick) + ")")
      ->check(CLI::Range(3, 10'000));
  auto* const quick = app_.add_flag("--quick", quick_, "Fewer rounds, and shorter ones");
  app_.add_flag("--full", full_, "All rounds (the default)")->excludes(quick);
  app_.add_flag("--json", json_, "Print one JSON object and nothing else");
}

int Program::rounds() const {
  if (rounds_ > 0) return rounds_;
  return quick_ ? rounds_default_.quick : rounds_default_.full;
}

void Program::add_only(const std::vector<std::string>& names) {
  app_.add_option("--only", only_, "Parts to measure (default: all; --quick: the short ones)")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
}

bool Program::is_asked_for(const std::string& part, bool is_quick) const {
  if (only_.empty()) return is_quick || !quick_;
  return std::ranges::find(only_, part) != only_.end();
}

int Program::finish() const {
  if (json_) {
    std::cout << report_.json().dump() << std::endl;
  } else {
    report_.print(std::cout);
  }
  return report_.passed() ? 0 : 1;
}

int Program::main(int argc, char** argv, const std::function<int()>& body) {
  CLI11_PARSE(app_, argc, argv);
  try {
    return body();
  } catch (const std::exception& e) {
    std::cerr << name_ << ": " << e.what() << std::endl;
    return 2;
  }
}

nlohmann::json run_child(const std::string& command) {
  std::FILE* const output = ::popen(command.c_str(), "r");  // NOLINT(cert-env33-c): our own binary.
  if (output == nullptr) throw std::runtime_error("cannot run " + command);
  std::string line;
  for (int byte = std::fgetc(output); byte != EOF && byte != '\n'; byte = std::fgetc(output)) {
    line.push_back(static_cast<char>(byte));
  }
  if (::pclose(output) != 0 || line.empty()) throw std::runtime_error("failed: " + command);
  return nlohmann::json::parse(line);
}

}  // namespace djinn::benchmarks
