// SPDX-License-Identifier: Apache-2.0
// Hostile arguments: no allowed operator may end the process, whatever shapes and numbers it is
// given. LibTorch checks most of it; operator_checks.cc checks the rest, and this test says what.
#include <iostream>

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "operators/allow_list.h"
#include "operators/census.h"
#include "server/torch/special_kernels.h"
#include "tests/server/torch/guarded_memory.h"
#include "tests/server/torch/operator_inputs.h"

namespace djinn::server {
namespace {

int tries() {
  const char* const given = getenv("DJINN_TRIES");  // NOLINT(concurrency-mt-unsafe): one thread
  return given == nullptr ? 100 : std::atoi(given);
}
uint64_t seed() {
  const char* const given = getenv("DJINN_SEED");  // NOLINT(concurrency-mt-unsafe): one thread
  return given == nullptr ? 1 : std::strtoull(given, nullptr, 10);
}

int attack(const OperatorInfo& op, uint64_t from) {
  OperatorInputs inputs(from, [](const at::Tensor& content, bool) { return content; });
  inputs.be_hostile();
  int ran = 0;
  for (int i = 0; i < tries(); ++i) {
    try {
      Stack stack = inputs.guess(op);
      const Stack kept = stack;
      const c10::InferenceMode inference;
      call_kernel(op, stack, c10::DispatchKeySet(c10::DispatchKey::CPU));
      ++ran;
    } catch (const std::exception&) {
    }
  }
  return ran;
}

TEST(HostileArguments, EndNoProcess) {
  std::cout << "DJINN_SEED=" << seed() << "\n";
  guard_memory(size_t{8} << 20);
  at::set_num_threads(1);
  std::vector<std::unique_ptr<OperatorInfo>> ops;
  const char* const only = getenv("DJINN_ONLY");  // NOLINT(concurrency-mt-unsafe): one thread
  for (const std::string_view name : operators::allowed_operators()) {
    if (only != nullptr && name.find(only) == std::string_view::npos) continue;
    auto info = describe_operator(*operators::find_operator(name));
    ASSERT_TRUE(info.has_value());
    (*info)->kernel = cpu_kernel_of(name);
    ops.push_back(std::move(*info));
  }
  const auto results = in_children(static_cast<int>(ops.size()), 60, [&](int i) {
    return attack(*ops[static_cast<size_t>(i)], seed() * 100'000 + static_cast<uint64_t>(i));
  });
  for (size_t i = 0; i < ops.size(); ++i) {
    EXPECT_GE(results[i], 0) << ops[i]->name << " was ended by signal " << -results[i];
  }
}

}  // namespace
}  // namespace djinn::server
