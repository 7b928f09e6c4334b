// SPDX-License-Identifier: Apache-2.0
// Tenants' tables as operators write them.
#include "server/settings/tenants.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "server/settings/settings.h"

namespace djinn::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(Tenants, AreReadFromTheirTables) {
  const auto tenants = tenants_from_toml(
      "threads = 3\n"
      "[tenants.alice]\n"
      "weight = 3\nclass = \"interactive\"\ndevice-memory = \"2GiB\"\nhost-memory = 4096\n"
      "sessions = 8\nqueue = 9\n"
      "device-ms-per-second = 250\nbytes-per-second = \"10MiB\"\nrequests-per-second = 0.5\n"
      "[tenants.\"bob o'c\"]\n"
      "weight = 0.5\ndevice-memory = 0\n"
      "[tenants.carol]\n",
      "x.toml");
  ASSERT_TRUE(tenants) << tenants.error().message;
  ASSERT_EQ(tenants->size(), 3U);
  EXPECT_EQ(
      tenants->at("alice"),
      (TenantSettings{.terms = {.weight = 3, .ceiling = sched::Class::kInteractive},
                      .device_memory_bytes = 2 * kGiB,
                      .host_memory_bytes = 4096,
                      .sessions_max = 8,
                      .queue_max = 9,
                      .rates = {.device_ns = 250'000'000, .bytes = 10 << 20, .requests = 0.5}}));
  EXPECT_EQ(tenants->at("bob o'c").terms.weight, 0.5);
  EXPECT_EQ(tenants->at("bob o'c").device_memory_bytes, 0U) << "no limit, whatever others have";
  EXPECT_EQ(tenants->at("carol"), TenantSettings{}) << "the defaults";
  EXPECT_TRUE(tenants_from_toml("threads = 3", "x.toml")->empty());
}

TEST(Tenants, AChangeIsOfItsKeysAndLeavesTheOthers) {
  const TenantTable was{{"alice", {.terms = {.weight = 3}, .sessions_max = 8, .queue_max = 9}},
                        {"carol", {.sessions_max = 2}}};
  const auto now = changed_tenants(was,
                                   "[tenants.alice]\nweight = 0.5\nqueue = \"default\"\n"
                                   "[tenants.\"bob o'c\"]\nclass = \"best-effort\"\n");
  ASSERT_TRUE(now) << now.error().message;
  EXPECT_EQ(now->size(), 3U);
  EXPECT_EQ(now->at("alice"), (TenantSettings{.terms = {.weight = 0.5}, .sessions_max = 8}));
  EXPECT_EQ(now->at("bob o'c"), (TenantSettings{.terms = {.ceiling = sched::Class::kBestEffort}}));
  EXPECT_EQ(now->at("carol"), was.at("carol"));
}

TEST(Tenants, AChangeThatIsWrongNamesTheTenantAndTheKey) {
  for (const auto& [text, hint] : std::vector<std::pair<std::string, std::string>>{
           {"", "there is no [tenants.NAME]"},
           {"weight = 3\n", "there is no [tenants.NAME]"},
           {"[tenants.alice]\nweight = 0\n", "[tenants.alice]: weight: is no number from 0.001"},
           {"[tenants.alice]\nwight = \"default\"\n", "there is no \"wight\" of a tenant"},
           {"[tenants.alice]\n\"\" = 1\n", "there is no \"\" of a tenant"},
           {"[tenants.alice\n", "change: line 1"}}) {
    const auto now = changed_tenants({{"alice", {}}}, text);
    ASSERT_FALSE(now) << text;
    EXPECT_EQ(now.error().code, ErrorCode::kInvalid);
    EXPECT_THAT(now.error().message, HasSubstr(hint));
  }
}

TEST(Tenants, AFileWithThemIsAFileOfSettingsToo) {
  const auto layer = settings_from_toml("threads = 3\n[tenants.alice]\nweight = 2\n", "x.toml");
  ASSERT_TRUE(layer) << layer.error().message;
  EXPECT_EQ(resolve({*layer})->threads, 3);
}

TEST(Tenants, AWrongTableIsNamedWithItsKeyAndItsCure) {
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"weight = 0", "0.001"},
      {"weight = -1", "0.001"},
      {"weight = nan", "0.001"},
      {"weight = 2000", "1000"},
      {"weight = \"3\"", "0.001"},
      {"weight = true", "0.001"},
      {"class = \"urgent\"", "best-effort"},
      {"class = 1", "best-effort"},
      {"device-memory = \"much\"", "2GiB"},
      {"device-memory = 1.5", "2GiB"},
      {"host-memory = -1", "2GiB"},
      {"sessions = 0", "1 to 1000000"},
      {"sessions = \"4\"", "1 to 1000000"},
      {"queue = 0", "1 to 1000000"},
      {"device-ms-per-second = 0", "1 to 1000"},
      {"device-ms-per-second = 1001", "1 to 1000"},
      {"device-ms-per-second = nan", "1 to 1000"},
      {"device-ms-per-second = \"10ms\"", "1 to 1000"},
      {"bytes-per-second = 0", "leave it out"},
      {"bytes-per-second = \"fast\"", "2GiB"},
      {"requests-per-second = 0", "0.01 to 1000000"},
      {"requests-per-second = inf", "0.01 to 1000000"},
      {"requests-per-second = true", "0.01 to 1000000"},
      {"token = \"s3cret\"", "weight, class"},
      {"threads = 2", "weight, class"}};
  for (const auto& [line, cure] : wrong) {
    const auto tenants = tenants_from_toml("[tenants.alice]\n" + line + "\n", "x.toml");
    ASSERT_FALSE(tenants) << line;
    EXPECT_EQ(tenants.error().code, ErrorCode::kInvalid);
    EXPECT_THAT(tenants.error().message,
                AllOf(HasSubstr("x.toml"), HasSubstr("[tenants.alice]"),
                      HasSubstr(line.substr(0, line.find(' '))), HasSubstr(cure)));
  }
  EXPECT_THAT(tenants_from_toml("tenants = 3", "x.toml").error().message,
              HasSubstr("[tenants.NAME]"));
  EXPECT_THAT(tenants_from_toml("[tenants]\nalice = 3", "x.toml").error().message,
              HasSubstr("[tenants.alice]"));
  EXPECT_THAT(tenants_from_toml("[tenants.\"\"]\n", "x.toml").error().message,
              HasSubstr("1 to 256"));
  EXPECT_THAT(tenants_from_toml("[tenants.a\n", "x.toml").error().message, HasSubstr("line 1"));
}

TEST(Tenants, ComeBackFromTheTomlOfTheSettings) {
  Settings settings = resolve({}).value();
  settings.tenants["a.b \"c\""] = {.terms = {.weight = 0.25, .ceiling = sched::Class::kBestEffort},
                                   .device_memory_bytes = 0,
                                   .host_memory_bytes = 3 * kGiB,
                                   .sessions_max = 7,
                                   .queue_max = 5};
  settings.tenants["plain"] = {};
  const std::string text = to_toml(settings);
  ASSERT_TRUE(settings_from_toml(text, "printed")) << text;
  const auto again = tenants_from_toml(text, "printed");
  ASSERT_TRUE(again) << again.error().message << "\n" << text;
  EXPECT_EQ(*again, settings.tenants);
}

TEST(Tenants, WhatCouldNotLeaveTheDeviceIsRefused) {
  TenantTable tenants;
  tenants["alice"] = {.device_memory_bytes = 2 * kGiB, .host_memory_bytes = 2 * kGiB};
  tenants["bob"] = {.host_memory_bytes = kGiB};
  tenants["carol"] = {.device_memory_bytes = 9 * kGiB};
  EXPECT_TRUE(check_tenants(tenants, kGiB));
  const auto checked = check_tenants(tenants, 3 * kGiB);
  ASSERT_FALSE(checked) << "bob has the 3 GiB of everybody";
  EXPECT_THAT(checked.error().message, AllOf(HasSubstr("[tenants.bob]"), HasSubstr("host-memory"),
                                             HasSubstr("1GiB"), HasSubstr("3GiB")));
  tenants["alice"].device_memory_bytes = 0;  // no limit of its own
  EXPECT_TRUE(check_tenants(tenants, kGiB)) << "her host-memory is the limit";
}

}  // namespace
}  // namespace djinn::server
