// SPDX-License-Identifier: Apache-2.0
// bench_oom's parts: what happens when work is larger than the device.
//
// Each part starts the servers it compares, and talks to all of them in turn in every round.
// Threading: one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "benchmarks/harness/report.h"
#include "tests/support/server_process.h"

namespace djinn::benchmarks {

struct OomBench {
  int rounds = 0;
  bool quick = false;
  Report& report;
};

// G3.4, G3.4b, G3.5, G3.6: a model of 3, 6 and 12 times the device, and demand paging.
void measure_oversize(OomBench& bench);
// G3.4 where the model hardly fits, or hardly does not: 0.73 to 2.17 times the device.
void measure_ladder(OomBench& bench);
// G3.4, G3.5 over a link as slow beside the memory as a GPU's.
void measure_emulated(OomBench& bench);
// G3.1: how large a batch may be.
void measure_cliff(OomBench& bench);
// What the naive arm of the cliff does in a process of its own; prints one line of JSON.
int naive_child(int64_t batch);

// Some servers, one device of this process each. Throws std::runtime_error if one does not start.
class Servers {
 public:
  // Each with its own arguments behind --threads 1.
  explicit Servers(const std::vector<std::vector<std::string>>& arguments);
  [[nodiscard]] static at::Device device(size_t server);
  [[nodiscard]] pid_t pid(size_t server) const { return servers_[server]->pid(); }

 private:
  std::vector<std::unique_ptr<testing::ServerProcess>> servers_;
};

// "12MiB" for the server's flags; at least one.
[[nodiscard]] std::string mebibytes(double bytes);

}  // namespace djinn::benchmarks
