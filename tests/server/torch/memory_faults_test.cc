// SPDX-License-Identifier: Apache-2.0
// Out of memory at the worst moment: every allocation of a step refused, one by one. The tenant
// gets the typed error and goes on; another tenant never notices.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "server/torch/cpu_device.h"
#include "server/torch/cpu_memory.h"
#include "tests/server/torch/harness.h"

namespace djinn::server {
namespace {

using at::Tensor;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = uint64_t{1} << 20;

// Refuses one allocation of the sessions' while it lives.
class Fault {
 public:
  explicit Fault(int which) {
    CpuMemory::instance().set_fault([this, which](uint64_t) {
      return CpuMemory::owner().account != nullptr && seen_++ == which;
    });
  }
  ~Fault() { CpuMemory::instance().set_fault(nullptr); }
  Fault(const Fault&) = delete;
  Fault& operator=(const Fault&) = delete;
  [[nodiscard]] int seen() const { return seen_; }

 private:
  std::atomic<int> seen_ = 0;
};

// A session of a step that makes, changes and drops storages; some of them live in the tiers.
struct App {
  explicit App(Device& device) : mirror(device) {
    mirror.see(weight);
    mirror.see(state);
    mirror.run();
  }

  // Records a step; the answers that are its results, and what they must be.
  void record() {
    expected.clear();
    const Tensor input = at::randn({64, 256});
    mirror.see(input);
    Tensor x = mirror.op("aten::mm", input, weight);
    x = mirror.op("aten::relu", x);
    const Tensor both = mirror.op("aten::cat", c10::List<Tensor>({x, input}), 1);
    const Tensor soft = mirror.op("aten::_softmax", both, 1, false);
    mirror.op("aten::add_.Tensor", state, soft, 0.5);
    const Tensor sum =
        mirror.op("aten::sum.dim_IntList", state, c10::List<int64_t>({1}), false, c10::IValue());
    fetch(sum);
    fetch(state);
    fetch(weight);
  }
  void fetch(const Tensor& tensor) {
    expected.emplace_back(mirror.fetch(tensor), bytes_of(tensor));
  }

  // How many answers were refused; the others are right, or this fails.
  int check(const Answers& answers, const char* whose) const {
    int refused = 0;
    for (const auto& [answer, bytes] : expected) {
      if (!answers[answer].has_value()) {
        ++refused;
        EXPECT_EQ(answers.code(answer), ErrorCode::kOutOfMemory)
            << whose << ": " << answers.error(answer);
        EXPECT_THAT(answers.error(answer), HasSubstr("out of memory"));
        EXPECT_THAT(answers.error(answer), HasSubstr("tenant test"));
        continue;
      }
      EXPECT_TRUE(std::ranges::equal(answers[answer]->bytes, bytes)) << whose;
    }
    return refused;
  }

  Tensor weight = at::randn({256, 256});
  Tensor state = at::zeros({64, 512});
  Mirror mirror;
  std::vector<std::pair<uint32_t, std::vector<std::byte>>> expected;
};

// How many answers of a step with a fault at this allocation were refused; -1: it has fewer.
int step_with_fault(App& app, int which) {
  app.record();
  const Fault fault(which);
  const Answers answers = app.mirror.run();
  const int refused = app.check(answers, "the one that has the fault");
  return fault.seen() > which ? refused : -1;
}

class MemoryFaults : public ::testing::TestWithParam<uint64_t> {};

TEST_P(MemoryFaults, AreTheErrorsOfOneStepOfOneTenant) {
  at::manual_seed(7);
  const auto device = make_cpu_device({.memory_budget_bytes = GetParam(), .threads = 1});
  App bystander(*device);
  int refusals = 0;
  int which = 0;
  for (;; ++which) {
    App app(*device);
    const int refused = step_with_fault(app, which);
    if (refused < 0) break;
    refusals += refused;
    bystander.record();
    EXPECT_EQ(bystander.check(bystander.mirror.run(), "a bystander"), 0);
    // Storages that were lost can be written again; the others are what they were.
    app.mirror.op("aten::zero_", app.state);
    app.mirror.run();
    App fresh(*device);
    fresh.record();
    EXPECT_EQ(fresh.check(fresh.mirror.run(), "a step after it"), 0);
  }
  EXPECT_GT(which, 4) << "allocations of a step";
  // A fault is heard of, or the operator ran again.
  const auto repeated = static_cast<int>(device->tier_report().moved.retries);
  EXPECT_GE(refusals + repeated, which);
  const auto unlimited = make_cpu_device({.threads = 1});
}

// Without tiers, and with a device that is large enough.
INSTANTIATE_TEST_SUITE_P(Budgets, MemoryFaults, ::testing::Values(uint64_t{0}, 512 * kMiB));

}  // namespace
}  // namespace djinn::server
