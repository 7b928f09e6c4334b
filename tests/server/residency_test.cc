// SPDX-License-Identifier: Apache-2.0
// Residency: whose bytes are on the device runs before whose would have to be brought there.
#include <gtest/gtest.h>

#include "tests/support/test_server.h"

namespace djinn::testing {
namespace {

using graph::PlanWriter;

class Residency : public ::testing::Test {
 protected:
  void SetUp() override {
    if (server.device.works_on_its_own()) GTEST_SKIP() << "jobs of such a device do not wait here";
    for (WireClient* const client : {&holder, &first, &second, &third}) {
      ASSERT_TRUE(client->hello());
      rest(*client);
      ASSERT_TRUE(eventually([&] { return server.device.begun().size() == ids.size() + 1; }));
      ids.push_back(server.device.begun().back());
    }
  }
  // A job that does nothing.
  static void rest(WireClient& client) {
    client.submit([&](PlanWriter& writer) { record_sleep(client, writer, 0); });
  }
  uint64_t in_flight() {
    const auto report = server.report(std::chrono::seconds(10));
    uint64_t jobs = 0;
    if (report) {
      for (const auto& session : report->sessions) jobs += session.in_flight;
    }
    return jobs;
  }
  // Jobs of the three wait for one of the holder's; the sessions in the order in which they run.
  std::vector<SessionId> order(const std::function<void()>& meanwhile) {
    server.device.asleep = true;
    holder.submit([&](PlanWriter& writer) {  // It never ran, so nobody takes it for a tiny one.
      record_sleep(holder, writer, 0);
      record_sleep(holder, writer, 0);
    });
    EXPECT_TRUE(eventually([&] { return server.device.running > 0; }));
    uint64_t jobs = in_flight();
    for (WireClient* const client : {&first, &second, &third}) {
      rest(*client);
      ++jobs;
      EXPECT_TRUE(eventually([&] { return in_flight() == jobs; }));
    }
    meanwhile();
    server.device.asleep = false;
    EXPECT_TRUE(eventually([&] { return server.device.begun().size() == 8; }));
    const std::vector<SessionId> begun = server.device.begun();
    return {begun.begin() + 5, begun.end()};
  }

  TestServer server;
  WireClient holder{server.unix_socket};
  WireClient first{server.unix_socket};
  WireClient second{server.unix_socket};
  WireClient third{server.unix_socket};
  std::vector<SessionId> ids;  // of the four
};

TEST_F(Residency, WhoseBytesAreAwayRunsBehindWhoCameLater) {
  const auto begun = order([&] {
    server.device.away_session = ids[1].value;
    server.device.bytes_moved = 1;
  });
  EXPECT_EQ(begun, (std::vector<SessionId>{ids[2], ids[3], ids[1]}));
}

TEST_F(Residency, NobodyIsAskedWhileNothingHasEverMoved) {
  const auto begun = order([&] { server.device.away_session = ids[1].value; });
  EXPECT_EQ(begun, (std::vector<SessionId>{ids[1], ids[2], ids[3]}));
}

}  // namespace
}  // namespace djinn::testing
