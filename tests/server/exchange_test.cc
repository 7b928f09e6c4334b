// SPDX-License-Identifier: Apache-2.0
// A server whose policy is exchanged while sessions work: no job is lost, none is answered wrong.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "scheduler/policy.h"
#include "tests/support/guest.h"

namespace djinn::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using transport::FrameKind;

constexpr milliseconds kPatience{10'000};

TEST(Exchange, ThePolicyChangesAHundredTimesUnderLoadAndNothingIsLost) {
  TestServer::Options options;
  options.server.access = server::Access::parse("a=alice\nb=bob\nc=carol\n").value();
  options.server.tenants = {{"bob", {.terms = {.weight = 2}}},
                            {"carol", {.terms = {.ceiling = sched::Class::kBestEffort}}}};
  options.server.chunk_ns = 100'000;
  TestServer server(options);
  std::atomic<bool> over = false;
  std::atomic<uint64_t> answered = 0;
  std::vector<std::thread> sessions;
  for (const char* const token : {"a", "a", "b", "c"}) {
    sessions.emplace_back([&, token] {
      Guest guest(server, token);
      while (!over) {
        constexpr int kInFlight = 8;
        for (int i = 0; i < kInFlight; ++i) {
          guest.client.submit([&](graph::PlanWriter& writer) {
            guest.record_sleeps(writer, i % 3, 1);
            record_fetch(writer, guest.tensor);
          });
        }
        for (int i = 0; i < kInFlight; ++i) {
          const auto answer = guest.client.receive_answer();
          ASSERT_TRUE(answer && answer->kind == FrameKind::kFetched);
          EXPECT_EQ(answer->floats(), Guest::kTensor);
          ++answered;
        }
      }
    });
  }
  const auto& names = sched::policy_names();
  for (size_t i = 0; i < 100; ++i) {
    const std::string& next = names[i % names.size()];
    const auto report = server.set_policy(next, kPatience);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->policy, next);
    const uint64_t before = answered;
    EXPECT_TRUE(eventually([&] { return answered > before; })) << "under " << next;
  }
  over = true;
  for (std::thread& each : sessions) each.join();
  const auto report = server.report(kPatience);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->queued_jobs, 0U);
}

TEST(Exchange, AJobThatRunsAndThoseThatWaitGoOnUnderAnyOther) {
  for (const std::string& first : sched::policy_names()) {
    for (const std::string& next : sched::policy_names()) {
      TestServer::Options options;
      options.server.policy = first;
      TestServer server(options);
      Guest one(server);
      Guest two(server);
      server.device.asleep = true;
      for (int i = 0; i < 3; ++i) {
        one.sleep(0);
        two.sleep(0);
      }
      ASSERT_TRUE(eventually([&] {
        return server.report(kPatience).value().queued_jobs == 6 && server.device.running > 0;
      }));
      ASSERT_TRUE(server.set_policy(next, kPatience));
      server.device.asleep = false;
      for (Guest* const guest : {&one, &two}) {
        for (int i = 0; i < 3; ++i) {
          const auto answer = guest->client.receive_answer();
          ASSERT_TRUE(answer && answer->kind == FrameKind::kFetched) << first << " to " << next;
        }
      }
    }
  }
}

TEST(Exchange, ANameThatThereIsNotChangesNothing) {
  TestServer server;
  const auto refused = server.set_policy("frob", kPatience);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalid);
  EXPECT_THAT(refused.error().message, HasSubstr("\"frob\" is none of "));
  for (const std::string& name : sched::policy_names()) {
    EXPECT_THAT(refused.error().message, HasSubstr(name));
  }
  EXPECT_EQ(server.report(kPatience).value().policy, "semantic");
}

}  // namespace
}  // namespace djinn::testing
