// SPDX-License-Identifier: Apache-2.0
// Report: the goals of one run of a benchmark, as a table for people and as one JSON object.
//
// The object: {benchmark, machine: {...}, settings: {...}, rounds: {postponed, disturbed},
// goals: [{id, value, must, aim, verdict, null, rounds, n, ...}], notes: [...]}. Threading: one
// thread.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "benchmarks/harness/goal.h"
#include "benchmarks/harness/rounds.h"

namespace djinn::benchmarks {

// A figure as a note says it.
[[nodiscard]] std::string text_of(double value, int digits = 2);

class Report {
 public:
  explicit Report(std::string benchmark) : benchmark_(std::move(benchmark)) {}

  void machine(const std::string& key, nlohmann::json value) { machine_[key] = std::move(value); }
  void setting(const std::string& key, nlohmann::json value) { settings_[key] = std::move(value); }
  // The worst arm is the goal; the others are listed below it.
  void add(std::vector<Goal> arms);
  // What a reader should know of a figure; printed below the table.
  void note(std::string text) { notes_.push_back(std::move(text)); }
  void count(const Rounds& rounds);

  [[nodiscard]] nlohmann::json json() const;
  void print(std::ostream& out) const;
  // All goals are PASS.
  [[nodiscard]] bool passed() const;

 private:
  std::string benchmark_;
  nlohmann::json machine_ = nlohmann::json::object();
  nlohmann::json settings_ = nlohmann::json::object();
  std::vector<std::vector<Goal>> goals_;
  std::vector<std::string> notes_;
  int postponed_ = 0;
  int disturbed_ = 0;
};

}  // namespace djinn::benchmarks
