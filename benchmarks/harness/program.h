// SPDX-License-Identifier: Apache-2.0
// Program: what every benchmark binary does beside measuring: its options, its parts, its report.
//
// Threading: one thread.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "benchmarks/harness/report.h"

namespace djinn::benchmarks {

// What one part measures goes into the report that `Bench` names.
template <typename Bench>
struct Part {
  const char* name;
  void (*measure)(Bench&);
  bool is_quick = true;  // also of --quick, if --only names nothing
};

// How many rounds there are, if --rounds does not say.
struct RoundsDefault {
  int full;
  int quick;
};

class Program {
 public:
  // `about`: what --help says first, before the exit status.
  Program(std::string name, const std::string& about, RoundsDefault rounds);

  // For options of one benchmark alone.
  [[nodiscard]] CLI::App& app() { return app_; }
  [[nodiscard]] Report& report() { return report_; }
  // After `main` has read the arguments:
  [[nodiscard]] int rounds() const;
  [[nodiscard]] bool quick() const { return quick_; }

  // Adds --only for these parts.
  template <typename Bench>
  void add_parts(std::span<const Part<Bench>> parts) {
    std::vector<std::string> names;
    for (const auto& part : parts) names.emplace_back(part.name);
    add_only(names);
  }
  // Measures the parts that are asked for.
  template <typename Bench>
  void measure(std::span<const Part<Bench>> parts, Bench& bench) {
    for (const auto& part : parts) {
      if (!is_asked_for(part.name, part.is_quick)) continue;
      std::cerr << name_ << ": " << part.name << " ..." << std::endl;
      part.measure(bench);
    }
  }
  // Prints the report. The exit status: 0 if every goal is PASS, 1 if one is not.
  [[nodiscard]] int finish() const;

  // Reads the arguments and calls `body`, whose result is the exit status; 2, with the reason, if
  // it throws.
  int main(int argc, char** argv, const std::function<int()>& body);

 private:
  void add_only(const std::vector<std::string>& names);
  [[nodiscard]] bool is_asked_for(const std::string& part, bool is_quick) const;

  std::string name_;
  RoundsDefault rounds_default_;
  CLI::App app_;
  Report report_;
  std::vector<std::string> only_;
  int rounds_ = 0;
  bool quick_ = false;
  bool full_ = false;  // It says what happens anyway.
  bool json_ = false;
};

// Runs a shell's command and reads the line of JSON that it prints. Throws std::runtime_error, with
// the command, if it prints none or fails.
[[nodiscard]] nlohmann::json run_child(const std::string& command);

}  // namespace djinn::benchmarks
