// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/harness/report.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <iomanip>
#include <sstream>

namespace djinn::benchmarks {
namespace {

using nlohmann::json;

json one(const Goal& goal) {
  json out = {{"arm", goal.arm},
              {"value", goal.value},
              {"verdict", name(goal.verdict)},
              {"rounds", goal.rounds.size()},
              {"n", goal.n},
              {"min", goal.least},
              {"max", goal.most},
              {"interval", {goal.interval.low, goal.interval.high}},
              {"null", nullptr},
              {"samples", goal.rounds}};
  if (goal.has_null) {
    out["null"] = goal.null;
    out["null_interval"] = {goal.null_interval.low, goal.null_interval.high};
  }
  return out;
}

std::string number(double value) {
  std::ostringstream out;
  if (value == static_cast<double>(static_cast<int64_t>(value))) {
    out << static_cast<int64_t>(value);
  } else {
    out << std::fixed << std::setprecision(value < 10 ? 3 : 1) << value;
  }
  return out.str();
}

void print_row(std::ostream& out, const std::string& label, const Goal& goal, bool headline) {
  const bool lower = goal.promise.better == Better::kLower;
  out << "  " << std::left << std::setw(26) << label << std::right << std::setw(10)
      << number(goal.value) << "  [" << number(goal.interval.low) << ", "
      << number(goal.interval.high) << "]";
  if (goal.has_null) {
    out << "  null " << number(goal.null) << " [" << number(goal.null_interval.low) << ", "
        << number(goal.null_interval.high) << "]";
  }
  out << "  n=" << goal.n;
  if (headline) {
    out << "  must " << (lower ? "<= " : ">= ") << number(goal.promise.must) << ", aim "
        << number(goal.promise.aim) << " " << goal.promise.unit;
  }
  out << "  " << name(goal.verdict) << "\n";
}

}  // namespace

std::string text_of(double value, int digits) {
  std::array<char, 64> out{};
  std::snprintf(out.data(), out.size(), "%.*f", digits, value);
  return out.data();
}

void Report::add(std::vector<Goal> arms) {
  if (!arms.empty()) goals_.push_back(std::move(arms));
}

void Report::count(const Rounds& rounds) {
  postponed_ += rounds.postponed();
  disturbed_ += rounds.disturbed();
}

nlohmann::json Report::json() const {
  using nlohmann::json;
  auto goals = json::array();
  for (const auto& arms : goals_) {
    const Goal& headline = worst(arms);
    json goal = one(headline);
    goal["id"] = headline.promise.id;
    goal["unit"] = headline.promise.unit;
    goal["must"] = headline.promise.must;
    goal["aim"] = headline.promise.aim;
    goal["better"] = headline.promise.better == Better::kLower ? "lower" : "higher";
    if (arms.size() > 1) {
      goal["arms"] = json::array();
      for (const Goal& arm : arms) goal["arms"].push_back(one(arm));
    }
    goals.push_back(std::move(goal));
  }
  return {{"benchmark", benchmark_},
          {"machine", machine_},
          {"settings", settings_},
          {"rounds", {{"postponed", postponed_}, {"disturbed", disturbed_}}},
          {"goals", std::move(goals)},
          {"notes", notes_}};
}

void Report::print(std::ostream& out) const {
  out << benchmark_ << "\n";
  for (const auto& [key, value] : machine_.items()) out << "  " << key << ": " << value << "\n";
  for (const auto& [key, value] : settings_.items()) out << "  " << key << ": " << value << "\n";
  out << "  uneven rounds: " << postponed_ << " put off, " << disturbed_ << " ran all the same\n\n";
  for (const auto& arms : goals_) {
    const Goal& headline = worst(arms);
    print_row(out, headline.promise.id, headline, true);
    if (arms.size() == 1) continue;
    for (const Goal& arm : arms) print_row(out, "  " + arm.arm, arm, false);
  }
  out << "\n";
  for (const std::string& note : notes_) out << "  " << note << "\n";
}

bool Report::passed() const {
  return std::ranges::all_of(
      goals_, [](const auto& arms) { return worst(arms).verdict == Verdict::kPass; });
}

}  // namespace djinn::benchmarks
