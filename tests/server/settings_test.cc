// SPDX-License-Identifier: Apache-2.0
// Settings, sizes and tokens as operators write them.
#include "server/settings/settings.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "server/settings/access.h"
#include "server/settings/byte_size.h"

namespace djinn::server {
namespace {

using ::testing::HasSubstr;

TEST(ByteSize, ReadsWhatPeopleWrite) {
  EXPECT_EQ(parse_bytes("0").value(), 0U);
  EXPECT_EQ(parse_bytes("1500").value(), 1500U);
  EXPECT_EQ(parse_bytes("512M").value(), uint64_t{512} << 20);
  EXPECT_EQ(parse_bytes("2GiB").value(), uint64_t{2} << 30);
  EXPECT_EQ(parse_bytes("2gib").value(), uint64_t{2} << 30);
  EXPECT_EQ(parse_bytes("3kB").value(), 3000U);
}

TEST(ByteSize, RefusesWhatIsNone) {
  for (const char* text :
       {"", "M", "-1", "2 GiB", "2GiBs", "1.5G", "99999999999999T", "0x10", "2iB"}) {
    EXPECT_FALSE(parse_bytes(text)) << text;
  }
}

TEST(ByteSize, WritesWhatItReads) {
  for (const uint64_t bytes : {0UL, 1UL, 1000UL, 1024UL, 3UL << 20, (1UL << 40) + 1}) {
    EXPECT_EQ(parse_bytes(bytes_text(bytes)).value(), bytes);
  }
}

TEST(Settings, HaveDefaults) {
  const auto settings = resolve({});
  ASSERT_TRUE(settings);
  ASSERT_EQ(settings->listen.size(), 1U);
  EXPECT_TRUE(settings->listen[0].is_local());
  EXPECT_EQ(settings->device, "auto");
  EXPECT_EQ(settings->artifact_cache_bytes, uint64_t{4} << 30);
  EXPECT_EQ(settings->chunk_us, 1000U);
  EXPECT_EQ(settings->lockstep, 1U);
  EXPECT_EQ(settings->cache_dir, "") << "nothing is written";
  EXPECT_EQ(settings->disk_cache_bytes, uint64_t{16} << 30);
  EXPECT_FALSE(settings->admin || settings->metrics);
}

TEST(Settings, PreferFlagsOverVariablesOverTheFile) {
  const Layer flags{{"threads", {"3"}}};
  const Layer environment = settings_from_environment([](const char* name) -> const char* {
    if (std::string_view(name) == "DJINN_SERVER_THREADS") return "4";
    if (std::string_view(name) == "DJINN_SERVER_DEVICE_MEMORY") return "2GiB";
    if (std::string_view(name) == "DJINN_SERVER_HOST_MEMORY") return "6GiB";
    if (std::string_view(name) == "DJINN_SERVER_LISTEN") return "unix:///a,tcp://127.0.0.1:1";
    return nullptr;
  });
  const auto file = settings_from_toml("threads = 5\ndevice-memory = \"1GiB\"\ndevice = \"cpu\"\n",
                                       "server.toml");
  ASSERT_TRUE(file);
  const auto settings = resolve({flags, environment, *file});
  ASSERT_TRUE(settings);
  EXPECT_EQ(settings->threads, 3);
  EXPECT_EQ(settings->device_memory_bytes, uint64_t{2} << 30);
  EXPECT_EQ(settings->artifact_cache_bytes, uint64_t{3} << 30);
  EXPECT_EQ(settings->device, "cpu");
  EXPECT_EQ(settings->listen.size(), 2U);
}

TEST(Settings, ComeBackFromTheirToml) {
  const auto settings = resolve({{{"listen", {"tcp://127.0.0.1:5", "unix:///tmp/s"}},
                                  {"allow-anonymous", {"true"}},
                                  {"device-memory", {"3GiB"}},
                                  {"cache-dir", {"/var/cache/djinn"}},
                                  {"disk-cache", {"5GiB"}},
                                  {"admin", {"unix:///run/djinn.sock"}},
                                  {"metrics", {"tcp://127.0.0.1:9400"}},
                                  {"token-file", {"/etc/tokens"}}}});
  ASSERT_TRUE(settings);
  const auto layer = settings_from_toml(to_toml(*settings), "printed");
  ASSERT_TRUE(layer) << layer.error().message;
  const auto again = resolve({*layer});
  ASSERT_TRUE(again);
  EXPECT_EQ(to_toml(*again), to_toml(*settings));
  EXPECT_TRUE(again->allow_anonymous);
  EXPECT_EQ(again->cache_dir, "/var/cache/djinn");
  EXPECT_EQ(again->disk_cache_bytes, uint64_t{5} << 30);
  EXPECT_EQ(again->admin.value().host, "/run/djinn.sock");
  EXPECT_EQ(again->metrics.value().port, 9400);
}

TEST(Settings, NameWhatIsWrong) {
  EXPECT_THAT(settings_from_toml("thread = 5", "x.toml").error().message, HasSubstr("\"thread\""));
  EXPECT_THAT(settings_from_toml("threads = [", "x.toml").error().message, HasSubstr("line 1"));
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"device", "tpu"},          {"device", "cuda:"},          {"threads", "0"},
      {"threads", "2x"},          {"log-level", "loud"},        {"device-memory", "much"},
      {"listen", "127.0.0.1"},    {"allow-anonymous", "maybe"}, {"admin", "/run/s"},
      {"admin", "tcp://[::1]:5"}, {"metrics", "unix:///run/s"}, {"disk-cache", "all"},
      {"lockstep", "0"},          {"lockstep", "65"},           {"chunk-us", "1ms"}};
  for (const auto& [name, value] : wrong) {
    const auto settings = resolve({{{name, {value}}}});
    ASSERT_FALSE(settings) << name << " " << value;
    EXPECT_THAT(settings.error().message, HasSubstr(name));
  }
}

TEST(Access, KnowsTenantsByTheirTokens) {
  const auto access = Access::parse("# people\n a=b = alice \n\nsecret=bob\r\n");
  ASSERT_TRUE(access) << access.error().message;
  EXPECT_EQ(access->tenant("a=b", false).value(), "alice");
  EXPECT_EQ(access->tenant("secret", false).value(), "bob");
  EXPECT_EQ(access->tenant("secre", true).error().code, ErrorCode::kDenied);
  EXPECT_EQ(access->tenant("secret ", true).error().code, ErrorCode::kDenied);
}

TEST(Access, LetsStrangersInFromHereOnly) {
  Access access;
  EXPECT_EQ(access.tenant("", true).value(), "anonymous");
  EXPECT_EQ(access.tenant("", false).error().code, ErrorCode::kDenied);
  access.allow_anonymous(true);
  EXPECT_TRUE(access.tenant("", false));
}

TEST(Access, NamesTheLineThatIsWrongAndNotItsToken) {
  const auto access = Access::parse("good=alice\nsecret\n");
  ASSERT_FALSE(access);
  EXPECT_THAT(access.error().message, HasSubstr("line 2"));
  EXPECT_THAT(access.error().message, ::testing::Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace djinn::server
