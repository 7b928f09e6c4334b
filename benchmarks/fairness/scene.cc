// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/fairness/scene.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "benchmarks/harness/rounds.h"
#include "server/ctl/ask.h"
#include "trace/record.h"

namespace djinn::benchmarks {
namespace {

constexpr std::chrono::seconds kPatience{20};

template <typename T>
T value_of(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

void write(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace

Scratch::Scratch() {
  std::string path = (std::filesystem::temp_directory_path() / "djinn-fairness-XXXXXX").string();
  if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("cannot make " + path);
  path_ = path;
}

Scratch::~Scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

const trace::Trace& Traces::of(const std::string& kind) {
  const auto known = traces_.find(kind);
  if (known != traces_.end()) return known->second;
  const testing::ServerProcess server({"--threads", "1", "--log-level", "warn"});
  const std::string path = scratch_.file(kind + ".trace");
  const std::string program = testing::binary_folder() + "/fairness_tenant";
  const auto recorded = value_of(
      trace::record(value_of(transport::parse_address(server.address())), path, {program, kind}));
  if (recorded.status != 0) throw std::runtime_error(program + " " + kind + " failed");
  return traces_.emplace(kind, value_of(trace::Trace::open(path))).first->second;
}

House::House(const Scratch& scratch, const std::string& policy, const std::string& config)
    : admin_{.kind = transport::Address::Kind::kUnix, .host = scratch.file(policy + ".sock")} {
  std::string tokens;
  for (const char* const tenant : kTenants) {
    tokens += std::string(tenant) + "=" + tenant + "\n";
  }
  write(scratch.file("tokens"), tokens);
  write(scratch.file(policy + ".toml"), config);
  process_ = std::make_unique<testing::ServerProcess>(std::vector<std::string>{
      "--threads", "1", "--log-level", "error", "--policy", policy, "--admin", admin_.text(),
      "--config", scratch.file(policy + ".toml"), "--token-file", scratch.file("tokens")});
}

transport::Address House::address() const {
  return value_of(transport::parse_address(process_->address()));
}

nlohmann::json House::page(const std::string& path) const {
  return nlohmann::json::parse(value_of(ctl::get(admin_, path, kPatience)));
}

Use House::use() const {
  const nlohmann::json all = page("/tenants").at("tenants");
  Use use{.at_s = std::chrono::duration<double>(Clock::now().time_since_epoch()).count()};
  for (const nlohmann::json& each : all) {
    const auto* const of = std::ranges::find(kTenants, each.at("tenant").get<std::string>());
    if (of == kTenants.end()) continue;
    use.used_s.at(static_cast<size_t>(of - kTenants.begin())) =
        each.at("used_ns").get<double>() * 1e-9;
  }
  return use;
}

double House::longest_operator_s() const {
  double longest = 0;
  const nlohmann::json all = page("/plans");
  for (const nlohmann::json& plan : all.at("plans")) {
    longest = std::max(longest, plan.at("longest_operator_ns").get<double>() * 1e-9);
  }
  return longest;
}

trace::Outcome House::play(trace::Load load) const {
  load.server = address();
  trace::Outcome outcome = value_of(trace::drive(load));
  for (size_t i = 0; i < outcome.parts.size(); ++i) {
    const trace::Tally& tally = outcome.parts[i];
    if (load.parts[i].background) continue;
    if (tally.different > 0) throw std::runtime_error(tally.first_difference);
    if (!tally.errors.empty()) throw std::runtime_error(tally.first_error);
  }
  return outcome;
}

double House::seconds_per_play(const trace::Part& part) const {
  const auto used_s = [this] {
    const Use seen = use();
    return std::accumulate(seen.used_s.begin(), seen.used_s.end(), 0.0);
  };
  (void)play({.parts = {part}});
  const double before_s = used_s();
  const trace::Outcome outcome = play({.parts = {part}});
  if (outcome.parts[0].plays != part.plays) throw std::runtime_error("a play was lost");
  return (used_s() - before_s) / static_cast<double>(part.plays);
}

Sampler::Sampler(const House& house, std::chrono::milliseconds period)
    : thread_([this, &house, period](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
          seen_.push_back(house.use());
          std::this_thread::sleep_for(period);
        }
      }) {}

std::vector<Use> Sampler::stop() {
  thread_.request_stop();
  thread_.join();
  return std::move(seen_);
}

}  // namespace djinn::benchmarks
