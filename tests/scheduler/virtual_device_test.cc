// SPDX-License-Identifier: Apache-2.0
// An hour of load on a simulated device.
#include "scheduler/virtual_device.h"

#include <iostream>
#include <random>

#include <gtest/gtest.h>

namespace djinn::sched {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMs;
constexpr uint64_t kHour = 3600 * kSecond;

TEST(VirtualDevice, ServesThreeThousandTenantsForAnHour) {
  VirtualDevice device({.policy = "semantic", .seed = 7, .chunk_ns = 10 * kMs});
  constexpr uint64_t kTenants = 3000;
  std::vector<SessionId> sessions;
  for (uint64_t i = 0; i < kTenants; ++i) {
    sessions.push_back(device.add({.tenant = "t" + std::to_string(i),
                                   .job = {.wanted = static_cast<Class>(i % kClasses)},
                                   .run_ns = (5 + i % 20) * kMs,
                                   .exact = false,
                                   .period_ns = 60 * kSecond,
                                   .from_ns = i * 20 * kMs,
                                   .until_ns = kHour}));
  }
  device.at(kHour / 3, [](VirtualDevice& now) {
    now.scheduler().set_policy(make_policy("wfq").value(), now.now_ns());
  });
  device.at(kHour / 2, [](VirtualDevice& now) {
    now.scheduler().set_policy(make_policy("semantic").value(), now.now_ns());
    for (uint64_t i = 0; i < kTenants; i += 2) {
      now.scheduler().set_terms("t" + std::to_string(i),
                                {.weight = 2, .ceiling = Class::kInteractive}, now.now_ns());
    }
  });
  device.run();
  uint64_t jobs = 0;
  for (const SessionId session : sessions) {
    const Served& served = device.served(session);
    EXPECT_EQ(served.ended, served.sent);
    EXPECT_LE(served.longest_wait_ns, 30 * kSecond);
    jobs += served.ended;
  }
  EXPECT_GT(jobs, kTenants * 50);
  EXPECT_GT(device.busy_ns(), kHour / 2);  // It was more than half full.
}

TEST(VirtualDevice, ADecodingSessionFeelsAloneBesideTrainingInChunks) {
  const auto step_p99_ns = [](const std::string& policy, bool shared) {
    VirtualDevice device({.policy = policy, .seed = 5, .chunk_ns = kMs, .keep_latencies = true});
    const SessionId decoding = device.add({.tenant = "decoding",
                                           .job = {.wanted = Class::kLatencyCritical},
                                           .run_ns = 20 * kMs,
                                           .think_ns = kMs / 10});
    if (shared) {
      device.add({.tenant = "training",
                  .job = {.wanted = Class::kBestEffort},
                  .run_ns = 200 * kMs,
                  .in_flight = 4});
    }
    device.run(60 * kSecond);
    auto steps = device.served(decoding).latency_ns;
    std::sort(steps.begin(), steps.end());
    return static_cast<double>(steps.at(steps.size() * 99 / 100));
  };
  const double alone = step_p99_ns("semantic", false);
  EXPECT_LE(step_p99_ns("semantic", true) / alone, 1.05);
  EXPECT_GE(step_p99_ns("fcfs", true) / alone, 3);
}

TEST(VirtualDevice, SharesFollowWeightsThreeToOneWhateverTheJobsAre) {
  for (const char* policy : {"wfq", "semantic"}) {
    VirtualDevice device({.policy = policy, .seed = 5, .chunk_ns = kMs, .keep_latencies = false});
    device.scheduler().set_terms("three", {.weight = 3}, 0);
    // Who has less weight sends more and longer jobs, from more sessions.
    device.add({.tenant = "three", .job = {}, .run_ns = 2 * kMs, .exact = false, .in_flight = 2});
    for (int session = 0; session < 5; ++session) {
      device.add({.tenant = "one", .job = {}, .run_ns = 30 * kMs, .exact = false, .in_flight = 8});
    }
    const auto used = [&](const char* tenant) {
      return static_cast<double>(device.scheduler().tenants().at(tenant).used_ns);
    };
    device.run(60 * kSecond);
    EXPECT_NEAR(used("three") / used("one"), 3, 0.01) << policy;
    // And the other way round, from the moment on in which the operator says so.
    const double three = used("three");
    const double one = used("one");
    device.scheduler().set_terms("three", {.weight = 1}, device.now_ns());
    device.scheduler().set_terms("one", {.weight = 3}, device.now_ns());
    device.run(120 * kSecond);
    EXPECT_NEAR((used("one") - one) / (used("three") - three), 3, 0.01) << policy;
  }
}

TEST(VirtualDevice, AFloodingTenantTakesNothingFromTheOthers) {
  for (const char* policy : {"wfq", "semantic"}) {
    VirtualDevice device({.policy = policy, .seed = 5, .chunk_ns = 0, .keep_latencies = true});
    const auto add = [&](const std::string& tenant, uint32_t in_flight) {
      return device.add(
          {.tenant = tenant, .job = {}, .run_ns = 5 * kMs, .exact = false, .in_flight = in_flight});
    };
    const SessionId meek[] = {add("a", 2), add("b", 2), add("c", 2)};
    for (int session = 0; session < 10; ++session) add("flood", 20);
    device.run(600 * kSecond);
    for (const SessionId session : meek) {
      EXPECT_NEAR(static_cast<double>(device.served(session).used_ns) / (600 * kSecond), 0.25,
                  0.0001)
          << policy;
    }
  }
}

// Who decodes on and on, from forty sessions, and one that now and then asks for something.
TEST(VirtualDevice, NobodysDecodesKeepAnothersFirstTokenBack) {
  VirtualDevice device({.policy = "semantic", .seed = 5, .chunk_ns = kMs, .keep_latencies = true});
  const SessionId asks = device.add({.tenant = "asks",
                                     .job = {.wanted = Class::kInteractive},
                                     .run_ns = 2 * kMs,
                                     .period_ns = 50 * kMs});
  for (int session = 0; session < 40; ++session) {
    device.add({.tenant = "decodes",
                .job = {.wanted = Class::kLatencyCritical},
                .run_ns = 2 * kMs,
                .think_ns = kMs / 10});
  }
  device.run(60 * kSecond);
  ASSERT_GT(device.served(asks).ended, 1000U);
  // A chunk that runs already, and its own time.
  EXPECT_LE(device.served(asks).longest_wait_ns, (1 + 2) * kMs + kMs / 10);
}

// A head start is all that a class is worth to who has its part already.
TEST(VirtualDevice, TenantsShareTheDeviceWhateverTheySayOfTheirJobs) {
  VirtualDevice device({.policy = "semantic", .seed = 5, .chunk_ns = kMs});
  const SessionId meek = device.add({.tenant = "meek",
                                     .job = {.wanted = Class::kInteractive},
                                     .run_ns = 5 * kMs,
                                     .in_flight = 2});
  device.add({.tenant = "loud",
              .job = {.wanted = Class::kLatencyCritical},
              .run_ns = 5 * kMs,
              .in_flight = 8});
  device.run(60 * kSecond);
  EXPECT_NEAR(static_cast<double>(device.served(meek).used_ns) / (60 * kSecond), 0.5, 0.001);
}

// ... and to who has less than its part, it is all that it needs.
TEST(VirtualDevice, ADecodingSessionWithinItsPartFeelsAloneBesideAnothersRequests) {
  const auto step_p99_ns = [](bool shared) {
    VirtualDevice device(
        {.policy = "semantic", .seed = 5, .chunk_ns = kMs, .keep_latencies = true});
    const SessionId decoding = device.add({.tenant = "decoding",
                                           .job = {.wanted = Class::kLatencyCritical},
                                           .run_ns = 10 * kMs,
                                           .period_ns = 40 * kMs});
    if (shared) {
      device.add({.tenant = "asks",
                  .job = {.wanted = Class::kInteractive},
                  .run_ns = 5 * kMs,
                  .in_flight = 4});
    }
    device.run(60 * kSecond);
    auto steps = device.served(decoding).latency_ns;
    std::sort(steps.begin(), steps.end());
    return static_cast<double>(steps.at(steps.size() * 99 / 100));
  };
  EXPECT_LE(step_p99_ns(true) - step_p99_ns(false), kMs) << "a chunk";
}

// Whatever an operator does, and when: the policy and what tenants may have change every 50 ms or
// so, in the end the device drains, and each job that was sent has ended once.
TEST(VirtualDevice, ChangesAndADrainUnderLoadLoseNothing) {
  constexpr uint64_t kSeed = 20'240'611;
  std::cout << "seed " << kSeed << ", simulated device" << std::endl;
  std::mt19937_64 random(kSeed);
  VirtualDevice device({.policy = "semantic", .seed = kSeed, .chunk_ns = kMs});
  constexpr uint64_t kTenants = 40;
  std::vector<SessionId> sessions;
  for (uint64_t i = 0; i < 4 * kTenants; ++i) {
    sessions.push_back(device.add({.tenant = "t" + std::to_string(i % kTenants),
                                   .job = {.deadline_ns = i % 5 == 0 ? 30 * kMs : kNever,
                                           .move_ns = (i % 3) * kMs,
                                           .wanted = static_cast<Class>(i % kClasses),
                                           .company = i % 7 == 0 ? 1 + i % 2 : 0},
                                   .run_ns = (1 + i % 9) * kMs,
                                   .exact = false,
                                   .think_ns = 200 * kMs,
                                   .in_flight = 1 + static_cast<uint32_t>(i % 4)}));
  }
  int exchanged = 0;
  for (uint64_t when = kMs; when < 20 * kSecond; when += 1 + random() % (100 * kMs)) {
    const std::string policy = policy_names()[random() % policy_names().size()];
    const std::string tenant = "t" + std::to_string(random() % kTenants);
    const Terms terms{.weight = 0.25 * static_cast<double>(1 + random() % 12),
                      .ceiling = static_cast<Class>(random() % kClasses)};
    device.at(when, [&exchanged, policy, tenant, terms](VirtualDevice& now) {
      now.scheduler().set_policy(make_policy(policy).value(), now.now_ns());
      now.scheduler().set_terms(tenant, terms, now.now_ns());
      ++exchanged;
    });
  }
  device.at(20 * kSecond, [](VirtualDevice& now) {
    EXPECT_GT(now.scheduler().waiting(), 50U) << "there is something to lose";
    now.drain();
  });
  device.run();
  EXPECT_GE(exchanged, 300);
  EXPECT_EQ(device.scheduler().waiting(), 0U);
  for (const SessionId session : sessions) {
    EXPECT_GT(device.served(session).sent, 0U) << session.value;
    EXPECT_EQ(device.served(session).ended, device.served(session).sent) << session.value;
  }
}

}  // namespace
}  // namespace djinn::sched
