// SPDX-License-Identifier: Apache-2.0
// Hidden writes: every allowed operator runs on inputs that lie in read-only pages. A page that is
// written although neither the schema nor the table says so is found here.
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <iostream>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "operators/allow_list.h"
#include "operators/census.h"
#include "server/torch/special_kernels.h"
#include "tests/server/torch/operator_inputs.h"

namespace djinn::server {
namespace {

using at::Tensor;

// A tensor's bytes on pages of their own. A write is noted, then let through.
struct Region {
  std::byte* begin = nullptr;
  size_t bytes = 0;
  volatile bool written = false;
};
constexpr size_t kRegionsMax = 64;
Region regions[kRegionsMax];  // NOLINT: the signal handler has nothing else
volatile size_t region_count = 0;

void on_fault(int signal, siginfo_t* info, void*) {
  auto* const at = static_cast<std::byte*>(info->si_addr);
  for (size_t i = 0; i < region_count; ++i) {
    Region& region = regions[i];
    if (at < region.begin || at >= region.begin + region.bytes) continue;
    region.written = true;
    mprotect(region.begin, region.bytes, PROT_READ | PROT_WRITE);
    return;
  }
  ::signal(signal, SIG_DFL);  // A true fault: the write is repeated and kills.
}

// Pages for one tensor, written once with `content`.
Tensor on_pages(const Tensor& content, bool read_only) {
  if (region_count >= kRegionsMax) return content;
  const size_t page = 4096;
  const size_t bytes = (std::max<size_t>(content.nbytes(), 1) + page - 1) / page * page;
  auto* const memory = static_cast<std::byte*>(
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (content.nbytes() != 0) {
    const Tensor plain = content.contiguous();
    std::memcpy(memory, plain.const_data_ptr(), plain.nbytes());
  }
  regions[region_count] = {memory, bytes, false};
  region_count = region_count + 1;
  if (read_only) mprotect(memory, bytes, PROT_READ);
  return at::from_blob(
      memory, content.sizes(), [memory, bytes](void*) { munmap(memory, bytes); },
      content.options());
}

// Bit 0: it ran. The others: argument i - 1 was written and nobody had said so.
int judge(const OperatorInfo& op, const Stack& args) {
  uint32_t said = op.hidden == nullptr ? 0 : op.hidden->arguments;
  for (size_t i = 0; i < op.args.size(); ++i) said |= op.args[i].written ? 1U << i : 0U;
  uint32_t found = 1;
  const auto look = [&](const Tensor& tensor, size_t arg) {
    if (!tensor.defined() || tensor.nbytes() == 0) return;
    for (size_t i = 0; i < region_count; ++i) {
      const bool here = regions[i].begin == tensor.const_data_ptr();
      if (here && regions[i].written && ((said >> arg) & 1U) == 0) found |= 2U << arg;
    }
  };
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i].isTensor()) look(args[i].toTensor(), i);
    if (!args[i].isList()) continue;
    for (const c10::IValue& item : args[i].toListRef()) {
      if (item.isTensor()) look(item.toTensor(), i);
    }
  }
  return static_cast<int>(found);
}

constexpr int kTries = 150;
constexpr int kSuccesses = 8;

int exercise(const OperatorInfo& op, uint64_t seed) {
  OperatorInputs inputs(
      seed, [](const Tensor& content, bool written) { return on_pages(content, !written); });
  int found = 0;
  for (int i = 0, successes = 0; i < kTries && successes < kSuccesses; ++i) {
    region_count = 0;
    Stack stack;
    try {
      stack = inputs.guess(op);
      const Stack args = stack;
      const c10::InferenceMode inference;
      call_kernel(op, stack, c10::DispatchKeySet(c10::DispatchKey::CPU));
      found |= judge(op, args);
      ++successes;
    } catch (const std::exception&) {  // The guess did not fit.
    }
  }
  return found;
}

struct sigaction handler() {
  struct sigaction action = {};
  action.sa_sigaction = &on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  return action;
}

TEST(HiddenWrites, AllAreInTheTable) {
  at::set_num_threads(1);
  std::vector<std::unique_ptr<OperatorInfo>> ops;
  for (const std::string_view name : operators::allowed_operators()) {
    auto info = describe_operator(*operators::find_operator(name));
    ASSERT_TRUE(info.has_value()) << info.error().message;
    (*info)->kernel = cpu_kernel_of(name);
    ops.push_back(std::move(*info));
  }
  const struct sigaction action = handler();
  const auto results = in_children(static_cast<int>(ops.size()), 60, [&](int i) {
    sigaction(SIGSEGV, &action, nullptr);
    return exercise(*ops[static_cast<size_t>(i)], static_cast<uint64_t>(i) + 1);
  });
  const bool list = getenv("DJINN_LIST") != nullptr;  // NOLINT(concurrency-mt-unsafe)
  size_t ran = 0;
  for (size_t i = 0; i < ops.size(); ++i) {
    const int result = results[i];
    if (result < 0) {
      std::cout << "killed by signal " << -result << ": " << ops[i]->name << "\n";
      continue;
    }
    ran += static_cast<size_t>(result) & 1U;
    if (list && result == 0) std::cout << "no fit: " << ops[i]->name << "\n";
    for (size_t arg = 0; arg < ops[i]->args.size(); ++arg) {
      EXPECT_EQ((static_cast<uint32_t>(result) >> (arg + 1)) & 1U, 0U)
          << ops[i]->name << " writes its argument "
          << ops[i]->handle.schema().arguments()[arg].name();
    }
  }
  std::cout << ran << " of " << ops.size() << " operators ran on read-only inputs\n";
  EXPECT_GE(ran, 900);
}

// The test can see: batch norm writes its statistics.
TEST(HiddenWrites, AreSeenByThisTest) {
  const struct sigaction action = handler();
  const auto results = in_children(1, 60, [&](int) {
    sigaction(SIGSEGV, &action, nullptr);
    auto op = *describe_operator(*operators::find_operator("aten::native_batch_norm"));
    op->hidden = nullptr;
    region_count = 0;
    const Tensor mean = on_pages(at::zeros({3}), true);
    const Tensor var = on_pages(at::ones({3}), true);
    Stack stack{at::randn({4, 3, 5}), c10::IValue(), c10::IValue(), mean, var, true, 0.1, 1e-5};
    const Stack args = stack;
    op->handle.callBoxed(&stack);
    return judge(*op, args);
  });
  EXPECT_EQ(results[0], 1 | (2 << 3) | (2 << 4));
}

}  // namespace
}  // namespace djinn::server
