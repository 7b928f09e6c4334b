// SPDX-License-Identifier: Apache-2.0
// Parts that are promised: whose they are, for how long, and that nothing is lost by it.
#include "server/memory/mapped_memory.h"

#include <thread>

#include <gtest/gtest.h>

namespace djinn::server {
namespace {

constexpr uint64_t kBudget = uint64_t{1} << 20;
constexpr uint64_t kHalf = kBudget / 2;
constexpr uint64_t kHeader = MappedMemory::kAlignment;

struct MappedMemoryTest : ::testing::Test {
  MappedMemoryTest() { memory.set_budget(kBudget); }
  MappedMemory::Block take_elsewhere(uint64_t bytes) {
    MappedMemory::Block block;
    std::thread([&] { block = memory.take(bytes, {}); }).join();
    return block;
  }

  MappedMemory memory{Tier::kDevice};
};

TEST_F(MappedMemoryTest, APromisedPartIsOfThatThreadAndOfNobodyElse) {
  ASSERT_TRUE(memory.promise(kBudget - kHalf));
  EXPECT_EQ(take_elsewhere(kHalf + 1).memory, nullptr);
  const auto other = take_elsewhere(kHalf - kHeader);
  ASSERT_NE(other.memory, nullptr) << "the rest is everybody's";
  const auto mine = memory.take(kHalf - kHeader, {});
  ASSERT_NE(mine.memory, nullptr);
  EXPECT_EQ(memory.usage().used, kBudget);
  memory.release(mine.memory);
  memory.release(other.memory);
  EXPECT_EQ(memory.usage().used, 0U);
}

TEST_F(MappedMemoryTest, WhatIsLeftOfAPromiseStaysPromised) {
  ASSERT_TRUE(memory.promise(kBudget));
  const auto first = memory.take(kHalf - kHeader, {});
  ASSERT_NE(first.memory, nullptr);
  EXPECT_EQ(take_elsewhere(1).memory, nullptr);
  const auto small = memory.take(1, {}, Arena::End::kHigh);
  ASSERT_NE(small.memory, nullptr) << "also at the other end";
  EXPECT_EQ(take_elsewhere(1).memory, nullptr);
  const auto second = memory.take(kHalf - 3 * kHeader, {});
  ASSERT_NE(second.memory, nullptr);
  EXPECT_EQ(memory.usage().used, kBudget);
  memory.release(first.memory);
  memory.release(small.memory);
  memory.release(second.memory);
}

TEST_F(MappedMemoryTest, APromiseThatEndsIsFreeForAll) {
  ASSERT_TRUE(memory.promise(kBudget));
  EXPECT_FALSE(memory.promise(kBudget + 1)) << "and the earlier one is gone";
  EXPECT_EQ(memory.usage().used, 0U);
  ASSERT_TRUE(memory.promise(kBudget));
  memory.end_promise();
  const auto block = take_elsewhere(kBudget - kHeader);
  ASSERT_NE(block.memory, nullptr);
  memory.release(block.memory);
}

TEST_F(MappedMemoryTest, APromiseDoesNotForgetWhoWroteTheBytes) {
  const Owner one{.session = 7, .account = nullptr};
  memory.release(memory.take(kBudget - kHeader, one).memory);
  ASSERT_TRUE(memory.promise(kHalf));
  const auto block = memory.take(kHalf - kHeader, one);
  EXPECT_EQ(block.content, 7U);
  memory.release(block.memory);
}

TEST_F(MappedMemoryTest, APromiseOutlivesAnAllocationThatItsTenantMayNotMake) {
  Account& account = Account::of("promised");
  account.set_limit(Tier::kDevice, 1000);
  ASSERT_TRUE(memory.promise(kBudget));
  EXPECT_EQ(memory.take(2000, {.account = &account}).memory, nullptr);
  EXPECT_EQ(take_elsewhere(1).memory, nullptr);
}

}  // namespace
}  // namespace djinn::server
