// SPDX-License-Identifier: Apache-2.0
// What a server says of its load: how busy its device is, who waits, and how long they waited.
#include <numeric>

#include <gtest/gtest.h>

#include "tests/support/guest.h"

namespace djinn::testing {
namespace {

using sched::Class;
using std::chrono::milliseconds;

server::Runner::Load load(TestServer& server) {
  const auto report = server.report(milliseconds(10'000));
  return report ? report->load : server::Runner::Load{};
}
uint64_t begun(const server::Runner::Load& load, Class of) {
  const auto& jobs = load.waits[static_cast<size_t>(of)].jobs;
  return std::accumulate(jobs.begin(), jobs.end(), uint64_t{0});
}

TestServer::Options options() {
  TestServer::Options out;
  out.server.access = server::Access::parse("a=alice\nb=bob\n").value();
  out.server.tenants = {{"bob", {.terms = {.ceiling = Class::kBestEffort}}}};
  return out;
}

TEST(Load, CountsWhatRunsWhileItRuns) {
  TestServer server(options());
  if (server.device.works_on_its_own()) GTEST_SKIP() << "it says what ran when that has ended";
  Guest guest(server, "a");
  server.device.asleep = true;
  guest.sleep(0);
  ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
  const uint64_t before_ns = load(server).busy_ns;
  EXPECT_TRUE(eventually([&] { return load(server).busy_ns > before_ns + 1'000'000; }));
  const uint64_t amid_ns = load(server).busy_ns;
  server.device.asleep = false;
  ASSERT_TRUE(guest.client.receive_answer());
  EXPECT_GE(load(server).busy_ns, amid_ns) << "it never becomes less";
}

TEST(Load, CountsWhoWaitsAndWhoHasWaitedByClass) {
  TestServer server(options());
  Guest alice(server, "a");
  Guest bob(server, "b");
  const server::Runner::Load before = load(server);
  server.device.asleep = true;
  alice.sleep(0);
  ASSERT_TRUE(eventually([&] { return server.device.running > 0; }));
  alice.sleep(0);
  bob.sleep(0);
  bob.sleep(0);
  if (!server.device.works_on_its_own()) {  // Its jobs do not wait here, but in the device.
    EXPECT_TRUE(eventually([&] {
      const auto queued = load(server).queued;
      return queued[static_cast<size_t>(Class::kInteractive)] == 1 &&
             queued[static_cast<size_t>(Class::kBestEffort)] == 2;
    }));
  }
  server.device.asleep = false;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(alice.client.receive_answer());
    ASSERT_TRUE(bob.client.receive_answer());
  }
  const server::Runner::Load after = load(server);
  EXPECT_EQ(begun(after, Class::kInteractive) - begun(before, Class::kInteractive), 2U);
  EXPECT_EQ(begun(after, Class::kBestEffort) - begun(before, Class::kBestEffort), 2U);
  EXPECT_EQ(after.queued[static_cast<size_t>(Class::kBestEffort)], 0U);
  const auto report = server.report(milliseconds(10'000));
  ASSERT_TRUE(report);
  for (const server::TenantReport& each : report->tenants) {
    if (each.tenant == "bob") {
      EXPECT_EQ(each.all_jobs, each.jobs);
    }
  }
}

}  // namespace
}  // namespace djinn::testing
