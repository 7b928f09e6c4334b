// SPDX-License-Identifier: Apache-2.0
// Clock: the one clock of this host. Threading: any thread.
#pragma once

#include <chrono>
#include <cstdint>

namespace djinn::server {

// Nanoseconds since some fixed point; never goes back.
[[nodiscard]] inline uint64_t now_ns() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

}  // namespace djinn::server
