// SPDX-License-Identifier: Apache-2.0
#include "trace/results.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace djinn::trace {
namespace {

using nlohmann::json;

json to_json(const Latencies& latencies) {
  return {{"count", latencies.count()},
          {"p50_ms", latencies.percentile(0.5)},
          {"p95_ms", latencies.percentile(0.95)},
          {"p99_ms", latencies.percentile(0.99)},
          {"max_ms", latencies.most()}};
}

json to_json(const Tally& tally, double seconds) {
  json errors = json::object();
  for (const auto& [code, count] : tally.errors) errors[name(code)] = count;
  return {{"plays", tally.plays},
          {"unfinished", tally.unfinished},
          {"jobs", tally.jobs},
          {"refusals", tally.refusals},
          {"repeats", tally.repeats},
          {"answers", tally.answers},
          {"answers_per_second", static_cast<double>(tally.answers) / seconds},
          {"different", tally.different},
          {"operators", tally.operators},
          {"sent_bytes", tally.sent_bytes},
          {"errors", std::move(errors)},
          {"first_error", tally.first_error},
          {"first_difference", tally.first_difference},
          {"answer", to_json(tally.answer)},
          {"first_answer", to_json(tally.first_answer)},
          {"per_answer", to_json(tally.per_answer)},
          {"play", to_json(tally.play)},
          {"late", to_json(tally.late)}};
}

void add_latencies(std::string& out, const char* what, const Latencies& latencies) {
  std::array<char, 160> line{};
  std::snprintf(line.data(), line.size(), "  %-15s p50 %9.3f  p95 %9.3f  p99 %9.3f  max %9.3f ms\n",
                what, latencies.percentile(0.5), latencies.percentile(0.95),
                latencies.percentile(0.99), latencies.most());
  out += line.data();
}

void add_part(std::string& out, const std::string& part, const Tally& tally, double seconds) {
  std::array<char, 200> line{};
  std::snprintf(line.data(), line.size(), ": %llu plays, %llu answers (%.1f/s), %llu unfinished\n",
                static_cast<unsigned long long>(tally.plays),
                static_cast<unsigned long long>(tally.answers),
                static_cast<double>(tally.answers) / seconds,
                static_cast<unsigned long long>(tally.unfinished));
  out += part + line.data();
  add_latencies(out, "answer", tally.answer);
  add_latencies(out, "first answer", tally.first_answer);
  add_latencies(out, "per answer", tally.per_answer);
  add_latencies(out, "play", tally.play);
  if (tally.refusals > 0) {
    out += "  " + std::to_string(tally.refusals) + " times a job was refused, and " +
           std::to_string(tally.repeats) + " jobs were sent again\n";
  }
  if (tally.late.count() > 0) add_latencies(out, "told it is late", tally.late);
  for (const auto& [code, count] : tally.errors) {
    out += "  " + std::to_string(count) + " ended with " + name(code) + "\n";
  }
  if (!tally.errors.empty()) out += "  the first: " + tally.first_error + "\n";
  if (tally.different > 0) {
    out += "  " + std::to_string(tally.different) +
           " answers are not those of the trace; the first: " + tally.first_difference + "\n";
  }
}

}  // namespace

json to_json(const Outcome& outcome, const std::vector<std::string>& names) {
  json parts = json::array();
  for (size_t i = 0; i < outcome.parts.size(); ++i) {
    json part = to_json(outcome.parts[i], outcome.seconds);
    part["name"] = names[i];
    parts.push_back(std::move(part));
  }
  return {{"seconds", outcome.seconds},
          {"sessions_most", outcome.sessions_most},
          {"parts", std::move(parts)}};
}

std::string to_text(const Outcome& outcome, const std::vector<std::string>& names) {
  std::array<char, 80> line{};
  std::snprintf(line.data(), line.size(), "%.2f s, at most %u sessions at a time\n",
                outcome.seconds, outcome.sessions_most);
  std::string out = line.data();
  for (size_t i = 0; i < outcome.parts.size(); ++i) {
    add_part(out, names[i], outcome.parts[i], outcome.seconds);
  }
  return out;
}

bool all_right(const Outcome& outcome) {
  return std::ranges::all_of(outcome.parts, [](const Tally& tally) {
    return tally.errors.empty() && tally.different == 0;
  });
}

}  // namespace djinn::trace
