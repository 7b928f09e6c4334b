// SPDX-License-Identifier: Apache-2.0
// What was between two looks at a server, and how a terminal shows it.
#include "server/ctl/top.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "server/ctl/screen.h"

namespace djinn::ctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Json tenant(const std::string& name, uint64_t used_ns, uint64_t all_jobs) {
  return {{"tenant", name},       {"class", "interactive"},
          {"weight", 1.0},        {"used_ns", used_ns},
          {"all_jobs", all_jobs}, {"in_flight", 3},
          {"sessions", 2},        {"device", {{"used_bytes", 2048}}}};
}
Json session(uint64_t id, uint64_t jobs) {
  return {{"session", id},
          {"tenant", "al\x1b[2Jice"},
          {"state", "open"},
          {"rests", false},
          {"peer", "tcp://127.0.0.1:5"},
          {"age_seconds", 7300.5},
          {"jobs", jobs},
          {"in_flight", 1},
          {"storage_bytes", 1024}};
}
Json page(uint64_t up_s, uint64_t busy_ms, std::vector<uint64_t> waits, uint64_t waited_ms) {
  return {{"device_name", "cpu"},
          {"status", "ok"},
          {"policy", "wfq"},
          {"up_ns", up_s * 1'000'000'000},
          {"busy_ns", busy_ms * 1'000'000},
          {"queued_jobs", 7},
          {"device", {{"used_bytes", 4096}, {"budget_bytes", 8192}}},
          {"wait_steps_ns", {1'000'000, 20'000'000}},
          {"classes",
           {{{"class", "interactive"},
             {"queued", 5},
             {"waits", std::move(waits)},
             {"waited_ns", waited_ms * 1'000'000}}}},
          {"tenants", Json::array()},
          {"sessions", Json::array()}};
}

TEST(Top, IsWhatWasBetweenTwoLooks) {
  Json before = page(100, 50'000, {1000, 100, 10}, 5000);
  Json now = page(104, 53'000, {1030, 104, 16}, 5200);
  before["tenants"] = {tenant("alice", 1000, 500), tenant("bob", 9000, 60)};
  now["tenants"] = {tenant("alice", 2000, 520), tenant("bob", 12'000, 64), tenant("new", 0, 0)};
  before["sessions"] = {session(1, 10), session(2, 70)};
  now["sessions"] = {session(2, 78), session(3, 2), session(4, 80)};
  const Json top = top_of(before, now);
  EXPECT_DOUBLE_EQ(top.at("utilisation").get<double>(), 0.75);
  EXPECT_DOUBLE_EQ(top.at("interval_seconds").get<double>(), 4);
  EXPECT_DOUBLE_EQ(top.at("jobs_per_second").get<double>(), 10);
  const Json& of_class = top.at("classes").at(0);
  EXPECT_EQ(of_class.at("queued"), 5);
  EXPECT_EQ(of_class.at("wait_mean_ns"), 5'000'000);
  EXPECT_EQ(of_class.at("wait_p95_ns"), 40'000'000) << "6 of 40 waited longer than all steps";
  const Json& tenants = top.at("tenants");
  EXPECT_EQ(tenants.at(0).at("tenant"), "bob");
  EXPECT_DOUBLE_EQ(tenants.at(0).at("device_share").get<double>(), 0.75);
  EXPECT_DOUBLE_EQ(tenants.at(0).at("jobs_per_second").get<double>(), 1);
  EXPECT_EQ(tenants.at(1).at("tenant"), "alice");
  EXPECT_EQ(tenants.at(2).at("device_share"), 0.0);
  const Json& sessions = top.at("sessions");
  ASSERT_EQ(sessions.size(), 3U) << "who is gone is gone";
  EXPECT_EQ(sessions.at(0).at("session"), 4) << "it did most, and was not there before";
  EXPECT_EQ(sessions.at(1).at("session"), 2);
}

TEST(Top, NothingBetweenIsNothing) {
  const Json same = page(100, 50'000, {1, 2, 3}, 4);
  const Json top = top_of(same, same);
  EXPECT_EQ(top.at("utilisation"), 0.0);
  EXPECT_EQ(top.at("jobs_per_second"), 0.0);
  EXPECT_EQ(top.at("classes").at(0).at("wait_mean_ns"), 0);
  EXPECT_EQ(top.at("classes").at(0).at("wait_p95_ns"), 0);
}

TEST(Top, AServerThatBeganAnewCountsFromNothing) {
  const Json top = top_of(page(1000, 900'000, {500, 0, 0}, 4), page(2, 1000, {4, 0, 0}, 2));
  EXPECT_DOUBLE_EQ(top.at("utilisation").get<double>(), 0.5);
  EXPECT_DOUBLE_EQ(top.at("jobs_per_second").get<double>(), 2);
}

TEST(Top, IsShownInTables) {
  Json now = page(7204, 53'000, {30, 4, 6}, 200);
  now["tenants"] = Json::array({tenant("alice", 2000, 20)});
  now["sessions"] = Json::array({session(3, 8)});
  now["status"] = "draining";
  const std::string text = top_text(top_of(page(7200, 50'000, {0, 0, 0}, 0), now));
  EXPECT_THAT(text, HasSubstr("cpu, up 2 h, policy wfq, DRAINING\n"));
  EXPECT_THAT(text, HasSubstr("busy 75 %, 10.0 jobs/s, 7 in flight, memory 4.0 KiB of 8.0 KiB\n"));
  EXPECT_THAT(text, HasSubstr("\ninteractive       5    10.0     5.0 ms            40.0 ms\n"));
  EXPECT_THAT(text, HasSubstr("alice   interactive     1.0        100 %"));
  EXPECT_THAT(text, HasSubstr("al?[2Jice"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(Top, AStrangePageIsAnException) {
  EXPECT_THROW((void)top_of(Json::parse("{}"), Json::parse("{}")), Json::exception);
}

TEST(Screen, CutsWhatDoesNotFit) {
  EXPECT_EQ(cut("abc\ndef\nghi\n", 2, 2), "ab\nde\n");
  EXPECT_EQ(cut("abc\n", 10, 10), "abc\n");
  EXPECT_EQ(cut("\n\nx\n", 3, 1), "\n\nx\n");
  EXPECT_EQ(cut("\xc3\xa4\xc3\xb6\xc3\xbc", 1, 2), "\xc3\xa4\xc3\xb6\n") << "characters, not bytes";
}

}  // namespace
}  // namespace djinn::ctl
