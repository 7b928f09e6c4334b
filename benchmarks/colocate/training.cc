// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/colocate/training.h"

#include <sys/types.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <stdexcept>

#include "benchmarks/harness/program.h"
#include "benchmarks/harness/rounds.h"

namespace djinn::benchmarks {
namespace {

constexpr double kStartedS = 0.1;  // of the device: the first epochs, with all that is needed once
constexpr std::chrono::seconds kPatience{30};

}  // namespace

double seconds_now() {
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

double Trained::epochs_per_s(double from_s, double to_s) const {
  if (ends_s.empty() || ends_s.front() > from_s || ends_s.back() < to_s) {
    throw std::runtime_error("the training did not last as long as what it was measured beside");
  }
  // Where in the training a moment lies, in epochs.
  const auto at = [&](double moment_s) {
    const auto next = std::ranges::upper_bound(ends_s, moment_s);
    if (next == ends_s.end()) return static_cast<double>(ends_s.size() - 1);
    const double began = *std::prev(next);
    return static_cast<double>(next - ends_s.begin() - 1) + (moment_s - began) / (*next - began);
  };
  return (at(to_s) - at(from_s)) / (to_s - from_s);
}

Training::Training(const Scratch& scratch, const House& house, size_t tenant)
    : pid_file_(scratch.file("training.pid")) {
  const std::string command =
      "echo $$ > " + pid_file_ + "; DJINN_SERVER=" + house.address().text() +
      " DJINN_TOKEN=" + kTenants.at(tenant) + " exec " + testing::binary_folder() +
      "/train_gcn --device djinn --epochs 1000000 --json";
  const double before = house.use().used_s.at(tenant);
  said_ = std::async(std::launch::async, run_child, command);
  const auto start = Clock::now();
  while (house.use().used_s.at(tenant) - before < kStartedS) {
    if (said_.wait_for(std::chrono::milliseconds(20)) == std::future_status::ready) {
      (void)said_.get();  // It says what went wrong, if anything did.
      throw std::runtime_error("the training ended before anything was measured");
    }
    if (Clock::now() - start > kPatience) throw std::runtime_error("the training does not begin");
  }
}

Training::~Training() {
  if (said_.valid()) ask_to_end();  // The future waits for it.
}

void Training::ask_to_end() const {
  pid_t pid = 0;
  if (std::ifstream(pid_file_) >> pid && pid > 0) ::kill(pid, SIGTERM);
}

Trained Training::end() {
  ask_to_end();
  const nlohmann::json said = said_.get();
  return {.losses = said.at("losses_exact").get<std::vector<std::string>>(),
          .ends_s = said.at("epoch_ends_s").get<std::vector<double>>()};
}

size_t different_losses(const Trained& a, const Trained& b) {
  const size_t both = std::min(a.losses.size(), b.losses.size());
  size_t different = 0;
  for (size_t i = 0; i < both; ++i) different += a.losses[i] == b.losses[i] ? 0 : 1;
  return different;
}

}  // namespace djinn::benchmarks
