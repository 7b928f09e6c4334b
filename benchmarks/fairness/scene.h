// SPDX-License-Identifier: Apache-2.0
// Scene: servers that four tenants share, what each tenant had of them at any moment, and the
// traces that the tenants play.
//
// Nothing here uses LibTorch: the tenants are traces of programs that ran once (tenant.cc).
// Ownership: processes, files and threads end with the object. Threading: one thread, and one that
// samples.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/server_process.h"
#include "trace/driver.h"
#include "trace/trace.h"

namespace djinn::benchmarks {

// The last one is the attacker; a tenant's token is its name.
inline constexpr std::array kTenants{"ann", "ben", "cem", "eve"};
inline constexpr size_t kVictims = 3;

// A folder for what a run writes; it goes with the object.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// Runs fairness_tenant and keeps what it said. Throws std::runtime_error if it fails.
class Traces {
 public:
  explicit Traces(const Scratch& scratch) : scratch_(scratch) {}
  const trace::Trace& of(const std::string& kind);

 private:
  const Scratch& scratch_;
  std::map<std::string, trace::Trace> traces_;
};

// What each tenant has used of the device since the server's start.
struct Use {
  double at_s = 0;
  std::array<double, kTenants.size()> used_s{};
};

// What the attacker may have is half of the device; the others have no limit of their own.
inline constexpr const char* kAttackerHasHalf = R"(device-memory = "512MiB"
host-memory = "1GiB"

[tenants.eve]
device-memory = "128MiB"
host-memory = "256MiB"
)";

// A server with one compute thread that knows the four tenants.
class House {
 public:
  // `config`: the server's config file. Of one scratch, each policy has one house.
  House(const Scratch& scratch, const std::string& policy,
        const std::string& config = kAttackerHasHalf);

  [[nodiscard]] transport::Address address() const;
  [[nodiscard]] nlohmann::json page(const std::string& path) const;
  [[nodiscard]] Use use() const;
  // Of all plans that ran, in seconds: the longest that anybody may have to wait for one operator.
  [[nodiscard]] double longest_operator_s() const;

  // Plays the load here; std::runtime_error if none could be played, or if a foreground part's
  // answers are not those that were recorded.
  [[nodiscard]] trace::Outcome play(trace::Load load) const;
  // How long the device works for one of the part's plays while nobody else is there; seconds. They
  // are played twice: what is needed once is there then. std::runtime_error if one is lost.
  [[nodiscard]] double seconds_per_play(const trace::Part& part) const;

 private:
  transport::Address admin_;
  std::unique_ptr<testing::ServerProcess> process_;
};

// Looks at a house's tenants again and again until it is asked what it saw.
class Sampler {
 public:
  Sampler(const House& house, std::chrono::milliseconds period);
  std::vector<Use> stop();

 private:
  std::vector<Use> seen_;
  std::jthread thread_;
};

}  // namespace djinn::benchmarks
