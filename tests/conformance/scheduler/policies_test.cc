// SPDX-License-Identifier: Apache-2.0
// What every policy keeps, on a simulated device: it lets nobody starve, lets nothing wait for no
// reason, decides the same for the same seed, and can be exchanged while jobs wait.
#include <gtest/gtest.h>

#include "scheduler/virtual_device.h"

namespace djinn::sched {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMs;

class EveryPolicy : public ::testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] static VirtualDevice::Options options(uint64_t seed = 1) {
    return {.policy = GetParam(), .seed = seed, .chunk_ns = 0, .keep_latencies = false};
  }
};

// 200 sessions of 50 tenants: all classes and deadlines, open and closed.
std::vector<SessionId> add_mixed(VirtualDevice& device, uint64_t until_ns) {
  std::vector<SessionId> out;
  for (uint64_t i = 0; i < 200; ++i) {
    const bool open = i % 3 == 0;
    out.push_back(device.add({.tenant = "t" + std::to_string(i % 50),
                              .job = {.deadline_ns = i % 4 == 0 ? 50 * kMs : kNever,
                                      .move_ns = (i % 5) * kMs,
                                      .wanted = static_cast<Class>(i % kClasses)},
                              .run_ns = (1 + i % 6) * kMs,
                              .exact = false,
                              .period_ns = open ? 900 * kMs : 0,
                              .think_ns = open ? 0 : 100 * kMs,
                              .until_ns = until_ns,
                              .in_flight = 1 + static_cast<uint32_t>(i % 3)}));
  }
  return out;
}

TEST_P(EveryPolicy, DecidesTheSameForTheSameSeed) {
  const auto digest = [](uint64_t seed) {
    VirtualDevice device(options(seed));
    add_mixed(device, 20 * kSecond);
    device.run();
    return device.digest();
  };
  EXPECT_EQ(digest(1), digest(1));
  EXPECT_NE(digest(1), digest(2));
}

TEST_P(EveryPolicy, EndsEveryJobOnce) {
  VirtualDevice device(options());
  const auto sessions = add_mixed(device, 20 * kSecond);
  device.run();
  uint64_t jobs = 0;
  for (const SessionId session : sessions) {
    EXPECT_EQ(device.served(session).ended, device.served(session).sent);
    jobs += device.served(session).ended;
  }
  EXPECT_GT(jobs, 5000U);
  EXPECT_EQ(device.scheduler().waiting(), 0U);
}

TEST_P(EveryPolicy, LetsTheDeviceRestOnlyForAsLongAsItSaysWhileSomebodyWaits) {
  VirtualDevice device(options());
  for (int i = 0; i < 4; ++i) {
    device.add({.tenant = "batch" + std::to_string(i),
                .job = {.wanted = Class::kBestEffort},
                .run_ns = 3 * kMs,
                .in_flight = 4});
  }
  const SessionId decoding = device.add({.tenant = "decoding",
                                         .job = {.wanted = Class::kLatencyCritical},
                                         .run_ns = 2 * kMs,
                                         .think_ns = kMs / 10});
  device.run(20 * kSecond);
  const uint64_t steps = device.served(decoding).ended;
  const uint64_t hold_max_ns = make_policy(GetParam()).value()->hold_max_ns();
  EXPECT_LE(device.held_ns(), (steps + 1) * hold_max_ns);
  EXPECT_GE(device.busy_ns() + device.held_ns() + 4 * kMs, 20 * kSecond);
}

// Three sessions that need all of the device each, and many small ones: the bound is ten seconds of
// patience, the widest head start, and what waited when a job came.
TEST_P(EveryPolicy, LetsNobodyStarve) {
  VirtualDevice device(options());
  std::vector<SessionId> all;
  for (uint64_t i = 0; i < 3; ++i) {
    all.push_back(device.add({.tenant = "greedy" + std::to_string(i),
                              .job = {.deadline_ns = 10 * kMs, .wanted = Class::kLatencyCritical},
                              .run_ns = 5 * kMs,
                              .in_flight = 8}));
  }
  for (uint64_t i = 0; i < 12; ++i) {
    all.push_back(device.add({.tenant = "meek" + std::to_string(i),
                              .job = {.move_ns = kMs, .wanted = static_cast<Class>(i % kClasses)},
                              .run_ns = 5 * kMs}));
  }
  device.run(120 * kSecond);
  for (const SessionId session : all) {
    EXPECT_LE(device.served(session).longest_wait_ns, 25 * kSecond) << session.value;
    EXPECT_GE(device.served(session).ended, 4U) << session.value;
  }
}

TEST_P(EveryPolicy, IsExchangedWithoutLosingAJob) {
  VirtualDevice device(options());
  const auto sessions = add_mixed(device, 20 * kSecond);
  uint64_t when_ns = kSecond;
  for (const std::string& other : policy_names()) {
    for (const std::string& next : {other, GetParam()}) {
      device.at(when_ns, [next](VirtualDevice& now) {
        now.scheduler().set_policy(make_policy(next).value(), now.now_ns());
      });
      when_ns += kSecond;
    }
  }
  device.run();
  for (const SessionId session : sessions) {
    EXPECT_GT(device.served(session).sent, 0U);
    EXPECT_EQ(device.served(session).ended, device.served(session).sent);
  }
}

TEST_P(EveryPolicy, RunsAllWhatWaitsAfterADrain) {
  VirtualDevice device(options());
  const auto sessions = add_mixed(device, kNever);
  device.at(5 * kSecond, [](VirtualDevice& now) { now.drain(); });
  device.run();
  EXPECT_GT(device.now_ns(), 5 * kSecond);
  for (const SessionId session : sessions) {
    EXPECT_EQ(device.served(session).ended, device.served(session).sent);
  }
}

TEST_P(EveryPolicy, ForgetsWhoLeavesAndServesTheOthers) {
  VirtualDevice device(options());
  const auto sessions = add_mixed(device, 10 * kSecond);
  for (size_t i = 0; i < sessions.size(); i += 2) {
    device.at((1 + i % 5) * kSecond, [gone = sessions[i]](VirtualDevice& now) { now.close(gone); });
  }
  device.run();
  for (size_t i = 1; i < sessions.size(); i += 2) {
    EXPECT_EQ(device.served(sessions[i]).ended, device.served(sessions[i]).sent);
  }
  EXPECT_EQ(device.scheduler().waiting(), 0U);
}

TEST_P(EveryPolicy, GivesAPausedSessionNoTurnAndItsJobsLater) {
  VirtualDevice device(options());
  const SessionId slow = device.add({.tenant = "slow", .job = {}, .run_ns = kMs});
  const SessionId other = device.add({.tenant = "other", .job = {}, .run_ns = kMs});
  device.at(kSecond,
            [slow](VirtualDevice& now) { now.scheduler().pause(slow, true, now.now_ns()); });
  device.run(2 * kSecond);
  const uint64_t before = device.served(slow).ended;
  device.run(3 * kSecond);
  EXPECT_EQ(device.served(slow).ended, before);
  EXPECT_GT(device.served(other).ended, 1900U);
  device.scheduler().pause(slow, false, device.now_ns());
  device.run(4 * kSecond);
  EXPECT_GT(device.served(slow).ended, before + 400);
}

TEST_P(EveryPolicy, SaysWhy) {
  VirtualDevice device(options());
  add_mixed(device, kSecond);
  device.run();
  const auto decisions = device.scheduler().decisions();
  ASSERT_EQ(decisions.size(), Scheduler::kDecisionsKept);
  for (size_t i = 0; i < decisions.size(); ++i) {
    EXPECT_EQ(decisions[i].policy, GetParam());
    EXPECT_FALSE(decisions[i].why.rule.empty());
    EXPECT_FALSE(decisions[i].why.terms[0].name.empty());
    EXPECT_EQ(decisions[i].number, decisions[0].number + i);
  }
}

// Exact: at every moment, for every two tenants that always have jobs.
TEST_P(EveryPolicy, IsFairIfItSaysSo) {
  if (!make_policy(GetParam()).value()->is_fair()) GTEST_SKIP() << "it does not say so";
  for (const uint64_t chunk_ns : {uint64_t{0}, kMs}) {
    VirtualDevice device({.policy = GetParam(), .seed = 3, .chunk_ns = chunk_ns});
    constexpr double kWeights[] = {1, 3, 1, 2};
    constexpr uint64_t kRunMs[] = {1, 5, 20, 2};
    for (uint64_t i = 0; i < 4; ++i) {
      const std::string name = "t" + std::to_string(i);
      device.scheduler().set_terms(name, {.weight = kWeights[i]}, 0);
      for (uint64_t session = 0; session <= i; ++session) {
        device.add({.tenant = name,
                    .job = {.deadline_ns = i == 0 ? kMs : kNever, .move_ns = i * kMs},
                    .run_ns = kRunMs[i] * kMs,
                    .exact = false,
                    .in_flight = 2});
      }
    }
    constexpr uint64_t kQuantumNs = 2 * kMs;
    constexpr uint64_t kMoveNs = 3 * kMs;  // the longest, less than what affinity is worth
    for (uint64_t ms = 50; ms < 10'000; ms += 7) {
      device.run(ms * kMs);
      const auto& tenants = device.scheduler().tenants();
      for (size_t i = 0; i < 4; ++i) {
        for (size_t j = 0; j < i; ++j) {
          const auto share = [&](size_t of) {
            return static_cast<double>(tenants.at("t" + std::to_string(of)).used_ns) / kWeights[of];
          };
          const auto longest = [&](size_t of) {
            const double run = static_cast<double>(kRunMs[of] * kMs) * 1.5;
            return (chunk_ns == 0 ? run : std::min(run, static_cast<double>(chunk_ns))) /
                   kWeights[of];
          };
          const double bound = std::max(longest(i), longest(j)) + kQuantumNs + kMoveNs;
          ASSERT_LE(std::abs(share(i) - share(j)), bound) << i << " and " << j << " at " << ms;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Scheduler, EveryPolicy, ::testing::ValuesIn(policy_names()),
                         [](const auto& named) { return named.param; });

}  // namespace
}  // namespace djinn::sched
