// SPDX-License-Identifier: Apache-2.0
// Tiers and tenants with limits: who has no room on the host is refused, and nobody else.
#include <gmock/gmock.h>

#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "server/memory/host_tier.h"
#include "server/memory/tiers.h"
#include "tests/support/arena_tier.h"

namespace djinn::server {
namespace {

using djinn::testing::ArenaTier;
using ::testing::HasSubstr;

constexpr uint64_t kPage = 64 << 10;
constexpr uint64_t kRoom = kPage + 4096;  // one, with what a block has beside its bytes

// A device of eight pages, and tenants of this test alone.
struct TenantLimits : ::testing::Test {
  static Account& tenant(const std::string& name, uint64_t device_pages, uint64_t host_pages) {
    const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
    Account& account = Account::of(std::string(test->name()) + "/" + name);
    account.set_limit(Tier::kDevice, device_pages * kRoom);
    account.set_limit(Tier::kHost, host_pages * kRoom);
    return account;
  }
  // As an operator's result comes into being: asked for, made, and used once.
  Result<TieredBufferPtr> make(Account& account, uint8_t fill) {
    const Owner owner{.session = 1, .account = &account};
    DJINN_CHECK(tiers->pin({}, kPage, &account));
    void* memory = device.allocate(kPage, owner);
    while (memory == nullptr && tiers->make_room(kPage, &account)) {
      memory = device.allocate(kPage, owner);
    }
    if (memory == nullptr) {
      tiers->unpin({});
      return Error{ErrorCode::kOutOfMemory, "no room"};
    }
    std::memset(memory, fill, kPage);
    TieredBufferPtr buffer = tiers->adopt(memory, kPage, owner);
    const Tiers::Use use{.buffer = buffer.get(), .written = true};
    tiers->unpin(std::span(&use, 1));
    return buffer;
  }
  int first_byte(TieredBuffer& buffer) {
    TieredBuffer* const one = &buffer;
    if (!tiers->pin(std::span(&one, 1))) return -1;
    const int byte = *static_cast<uint8_t*>(buffer.device());
    const Tiers::Use use{.buffer = &buffer};
    tiers->unpin(std::span(&use, 1));
    return byte;
  }
  // How many it can make, until it is refused for the reason `why`.
  size_t fill(Account& account, std::vector<TieredBufferPtr>& into, std::string* why = nullptr) {
    for (size_t i = 0; i < 100; ++i) {
      auto buffer = make(account, static_cast<uint8_t>(i));
      if (!buffer) {
        EXPECT_EQ(buffer.error().code, ErrorCode::kOutOfMemory);
        if (why != nullptr) *why = buffer.error().message;
        return i;
      }
      into.push_back(*buffer);
    }
    return 100;
  }

  ArenaTier device{8 * kRoom};
  HostTier host;
  std::shared_ptr<Tiers> tiers =
      std::make_shared<Tiers>(device, host, Tiers::Options{.policy = *make_policy("lru")});
};

TEST_F(TenantLimits, WhoseBytesCouldNotLeaveIsRefusedBeforeItWorks) {
  Account& alice = tenant("alice", 0, 3);
  std::vector<TieredBufferPtr> hers;
  std::string why;
  EXPECT_EQ(fill(alice, hers, &why), 3U) << "the device has room, but all of it may have to leave";
  EXPECT_THAT(why, HasSubstr("tenant " + alice.tenant()));
  EXPECT_THAT(why, HasSubstr("host-memory"));
  EXPECT_EQ(tiers->stats().spills, 0U);
  hers.pop_back();
  EXPECT_TRUE(make(alice, 9)) << "what she has freed is hers again";
}

TEST_F(TenantLimits, HasNoMoreThanTheHostTakesAndOfThatItsShareOfTheDevice) {
  Account& alice = tenant("alice", 2, 5);
  std::vector<TieredBufferPtr> hers;
  EXPECT_EQ(fill(alice, hers), 5U);
  for (int turn = 0; turn < 10; ++turn) {
    for (size_t i = 0; i < hers.size(); ++i) ASSERT_EQ(first_byte(*hers[i]), i) << turn;
  }
  EXPECT_LE(alice.peak(Tier::kDevice), 2 * kRoom);
  EXPECT_LE(alice.peak(Tier::kHost), 5 * kRoom);
}

TEST_F(TenantLimits, WhoseLimitWasLoweredIsNoReasonToRefuseAnother) {
  Account& alice = tenant("alice", 0, 8);
  Account& bob = tenant("bob", 0, 0);
  std::vector<TieredBufferPtr> hers;
  std::vector<TieredBufferPtr> his;
  for (uint8_t i = 0; i < 4; ++i) hers.push_back(make(alice, i).value());
  alice.set_limit(Tier::kHost, 2 * kRoom);
  EXPECT_FALSE(make(alice, 0)) << "at once";
  EXPECT_EQ(fill(bob, his), 100U) << "two of hers leave, two stay, and his leave for his own";
  EXPECT_LE(alice.peak(Tier::kHost), 2 * kRoom);
  for (size_t i = 0; i < hers.size(); ++i) EXPECT_EQ(first_byte(*hers[i]), i);
  for (size_t i = 0; i < his.size(); ++i) EXPECT_EQ(first_byte(*his[i]), i);
}

TEST_F(TenantLimits, AllOfATenantWithoutAShareOfTheDeviceLeavesForOthers) {
  Account& alice = tenant("alice", 0, 6);
  Account& bob = tenant("bob", 0, 0);
  std::vector<TieredBufferPtr> hers;
  std::vector<TieredBufferPtr> his;
  ASSERT_EQ(fill(alice, hers), 6U);
  // All of the device at once for one operator of his.
  for (uint8_t i = 0; i < 7; ++i) his.push_back(make(bob, i).value());
  std::vector<TieredBuffer*> all;
  all.reserve(his.size());
  for (const auto& each : his) all.push_back(each.get());
  EXPECT_TRUE(tiers->pin(all));
  std::vector<Tiers::Use> uses;
  uses.reserve(all.size());
  for (TieredBuffer* const each : all) uses.push_back({.buffer = each});
  tiers->unpin(uses);
  EXPECT_GE(alice.used(Tier::kHost), 5 * kPage);
  EXPECT_LE(alice.used(Tier::kHost), 6 * kRoom);
  for (size_t i = 0; i < hers.size(); ++i) EXPECT_EQ(first_byte(*hers[i]), i);
}

TEST(AccountLimits, OneOfItsOwnOutlivesTheDefault) {
  Account& own = Account::of("AccountLimits/own");
  Account& other = Account::of("AccountLimits/other");
  own.set_limit(Tier::kDevice, 5000);
  Account::set_default_limit(Tier::kDevice, 1000);
  EXPECT_EQ(own.limit(Tier::kDevice), 5000U);
  EXPECT_EQ(other.limit(Tier::kDevice), 1000U);
  own.set_limit(Tier::kDevice, std::nullopt);
  EXPECT_EQ(own.limit(Tier::kDevice), 1000U);
  Account::set_default_limit(Tier::kDevice, 0);
  EXPECT_EQ(own.limit(Tier::kDevice), 0U);
}

}  // namespace
}  // namespace djinn::server
