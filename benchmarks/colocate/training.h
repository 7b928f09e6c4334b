// SPDX-License-Identifier: Apache-2.0
// Training: examples/train_gcn as a process beside this one, that trains on a house's server.
//
// Ownership: the process ends before the object does. Threading: one thread.
#pragma once

#include <future>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "benchmarks/fairness/scene.h"

namespace djinn::benchmarks {

// What a training did, epoch by epoch.
struct Trained {
  std::vector<std::string> losses;  // with all bits
  std::vector<double> ends_s;       // on the clock of seconds_now()

  // Epochs per second between these moments, of which those at the edges count in part; throws
  // std::runtime_error if the training was not at work all the time.
  [[nodiscard]] double epochs_per_s(double from_s, double to_s) const;
};

// On the machine's monotonic clock, as train_gcn says when its epochs ended.
[[nodiscard]] double seconds_now();

class Training {
 public:
  // Begins to train as this tenant; returns when the first epochs are done.
  Training(const Scratch& scratch, const House& house, size_t tenant);
  ~Training();
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;
  // Asks it to end, and waits for that. Throws std::runtime_error if it failed.
  Trained end();

 private:
  void ask_to_end() const;

  std::string pid_file_;
  std::future<nlohmann::json> said_;
};

// How many of the epochs that both did have another loss.
[[nodiscard]] size_t different_losses(const Trained& a, const Trained& b);

}  // namespace djinn::benchmarks
