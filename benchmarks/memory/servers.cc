// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/memory/servers.h"

#include <algorithm>

#include "client/djinn.h"

namespace djinn::benchmarks {

Servers::Servers(const std::vector<std::vector<std::string>>& arguments, size_t sessions)
    : sessions_(sessions) {
  std::string addresses;
  for (const std::vector<std::string>& each : arguments) {
    std::vector<std::string> all{"--threads", "1", "--log-level", "warn"};
    all.insert(all.end(), each.begin(), each.end());
    servers_.push_back(std::make_unique<testing::ServerProcess>(std::move(all)));
    for (size_t i = 0; i < sessions; ++i) {
      addresses += (addresses.empty() ? "" : ",") + servers_.back()->address();
    }
  }
  djinn::connect({.server = addresses});
}

at::Device Servers::device(size_t server) { return at::Device("djinn:" + std::to_string(server)); }

at::Device Servers::device(size_t server, size_t session) const {
  return at::Device("djinn:" + std::to_string(server * sessions_ + session));
}

std::string mebibytes(double bytes) {
  return std::to_string(std::max<int64_t>(1, static_cast<int64_t>(bytes / (1 << 20)))) + "MiB";
}

}  // namespace djinn::benchmarks
