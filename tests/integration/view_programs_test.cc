// SPDX-License-Identifier: Apache-2.0
// Random programs of views and writes give the same bits on the CPU and on a real server.
//
//   view_programs_test --programs 100000     more of them (or DJINN_PROGRAMS=100000)
//   DJINN_SEED=7 view_programs_test          others: the seed is 1, so that a commit always meets
//                                            the same ones
//   DJINN_SEED=7 DJINN_PROGRAM=12 view_programs_test    one of them; with DJINN_FETCH_ALL=1 all
//                                                       tensors are compared after every step
#include <cstdlib>
#include <cstring>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "tests/integration/random_program.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

std::string listing(const RandomProgram& program) {
  std::string out;
  for (const std::string& step : program.steps()) out += "  " + step + "\n";
  return out;
}

// Operators that enlarge an out= tensor say each time that they will not for ever.
struct Silence : c10::WarningHandler {
  void process(const c10::Warning& /*warning*/) override {}
};

TEST(ViewPrograms, GiveTheBitsOfTheCpu) {
  at::set_num_threads(1);
  Silence silence;
  const c10::WarningUtils::WarningHandlerGuard quiet(&silence);
  const ServerProcess server({"--threads", "1"});
  djinn::connect({.server = server.address()});
  const uint64_t seed = from_environment("DJINN_SEED", 1);
  const uint64_t only = from_environment("DJINN_PROGRAM", UINT64_MAX);
  const uint64_t programs = from_environment("DJINN_PROGRAMS", 1000);
  std::printf("DJINN_SEED=%lu\n", seed);
  uint64_t steps = 0;
  uint64_t refused = 0;
  uint64_t ended_early = 0;
  for (uint64_t i = only == UINT64_MAX ? 0 : only; i < programs || i == only; ++i) {
    RandomProgram program(seed * 1'000'003 + i);
    const auto difference = program.run(static_cast<int>(program.between(5, 60)));
    ASSERT_FALSE(difference) << "DJINN_SEED=" << seed << " DJINN_PROGRAM=" << i << ":\n"
                             << listing(program) << *difference;
    steps += program.steps().size();
    ended_early += program.over() ? 1 : 0;
    for (const std::string& step : program.steps()) {
      refused += step.find("// refused") != std::string::npos ? 1 : 0;
    }
    if (only != UINT64_MAX) break;
  }
  const Stats stats = djinn::stats();
  std::printf(
      "%lu programs (%lu ended early), %lu steps (%lu refused), %lu operators, %lu fetches\n",
      programs, ended_early, steps, refused, stats.ops_recorded, stats.fetches);
  EXPECT_LT(refused * 3, steps) << "the programs hardly run";
  EXPECT_LE(ended_early * 3, programs) << "the programs hardly run";
}

}  // namespace
}  // namespace djinn::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--programs") == 0)
      setenv("DJINN_PROGRAMS", argv[i + 1], 1);  // NOLINT
  }
  return RUN_ALL_TESTS();
}
