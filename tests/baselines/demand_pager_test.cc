// SPDX-License-Identifier: Apache-2.0
#include "baselines/demand_pager.h"

#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace djinn::baselines {
namespace {

std::vector<std::byte> some_bytes(size_t count) {
  std::mt19937 random(7);
  std::vector<std::byte> bytes(count);
  for (std::byte& each : bytes) each = static_cast<std::byte>(random());
  return bytes;
}

class DemandPagerTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  std::unique_ptr<DemandPager> pager(const std::vector<std::byte>& bytes, uint64_t resident) {
    auto made =
        DemandPager::make(bytes, {.resident_bytes_max = resident, .page_bytes = GetParam()});
    if (made) return std::move(made).value();
    reason = made.error().message;
    EXPECT_EQ(made.error().code, ErrorCode::kUnsupported) << reason;
    return nullptr;
  }
  std::string reason;
};

TEST_P(DemandPagerTest, ShowsTheBytesHoweverFewMayStayResident) {
  const std::vector<std::byte> bytes = some_bytes((1 << 20) + 12'345);
  const uint64_t resident = 2 * GetParam();
  const auto paged = pager(bytes, resident);
  if (paged == nullptr) GTEST_SKIP() << reason;
  for (int pass = 0; pass < 3; ++pass) {
    ASSERT_EQ(std::memcmp(paged->data(), bytes.data(), bytes.size()), 0) << "pass " << pass;
  }
  EXPECT_LE(paged->resident_bytes_peak(), resident);
  const uint64_t pages = (bytes.size() + GetParam() - 1) / GetParam();
  EXPECT_EQ(paged->faults(), 3 * pages) << "in turn, first in first out keeps nothing of use";
  EXPECT_EQ(paged->evictions(), 3 * pages - 2);
}

TEST_P(DemandPagerTest, FaultsOncePerPageIfAllMayStay) {
  const std::vector<std::byte> bytes = some_bytes(1 << 20);
  const auto paged = pager(bytes, bytes.size());
  if (paged == nullptr) GTEST_SKIP() << reason;
  for (int pass = 0; pass < 2; ++pass) {
    ASSERT_EQ(std::memcmp(paged->data(), bytes.data(), bytes.size()), 0);
  }
  EXPECT_EQ(paged->faults(), bytes.size() / GetParam());
  EXPECT_EQ(paged->evictions(), 0U);
}

TEST_P(DemandPagerTest, ShowsTheBytesToManyThreadsAtOnce) {
  const std::vector<std::byte> bytes = some_bytes(1 << 20);
  const auto paged = pager(bytes, 3 * GetParam());
  if (paged == nullptr) GTEST_SKIP() << reason;
  std::vector<std::thread> readers;
  std::atomic<int> wrong = 0;
  for (unsigned reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937 random(reader);
      for (int i = 0; i < 500; ++i) {
        const size_t at = random() % bytes.size();
        if (paged->data()[at] != bytes[at]) ++wrong;
      }
    });
  }
  for (std::thread& each : readers) each.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(paged->resident_bytes_peak(), 3 * GetParam());
}

INSTANTIATE_TEST_SUITE_P(Pages, DemandPagerTest, ::testing::Values(4096, 65536, 262144));

TEST(DemandPager, RefusesABudgetOfLessThanAPage) {
  const std::vector<std::byte> bytes(1 << 20);
  const auto made = DemandPager::make(bytes, {.resident_bytes_max = 4096, .page_bytes = 65536});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::kInvalid);
}

}  // namespace
}  // namespace djinn::baselines
