// SPDX-License-Identifier: Apache-2.0
// Seed: where the chance of a test begins - DJINN_SEED, or somewhere else in each process.
//
// Whoever takes it says it (SCOPED_TRACE or a line), so that a failure can be repeated.
// Threading: none that changes the environment.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace djinn {

// The same for the whole process.
inline uint64_t test_seed() {
  const char* const given = std::getenv("DJINN_SEED");  // NOLINT(concurrency-mt-unsafe)
  static const uint64_t seed = given != nullptr ? std::stoull(given) : std::random_device{}();
  return seed;
}

}  // namespace djinn
