// SPDX-License-Identifier: Apache-2.0
// Servers: what a benchmark compares, each a djinn-server in a process of its own, and the devices
// of this process that are sessions with them.
//
// Ownership: the processes end with the object. Threading: one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "tests/support/server_process.h"

namespace djinn::benchmarks {

class Servers {
 public:
  // Each with its own arguments behind --threads 1, and so many sessions. Throws std::runtime_error
  // if one does not start.
  explicit Servers(const std::vector<std::vector<std::string>>& arguments, size_t sessions = 1);

  // The first device of a server, where each has one session.
  [[nodiscard]] static at::Device device(size_t server);
  [[nodiscard]] at::Device device(size_t server, size_t session) const;
  [[nodiscard]] pid_t pid(size_t server) const { return servers_[server]->pid(); }

 private:
  size_t sessions_;
  std::vector<std::unique_ptr<testing::ServerProcess>> servers_;
};

// "12MiB" for the server's flags; at least one.
[[nodiscard]] std::string mebibytes(double bytes);

}  // namespace djinn::benchmarks
