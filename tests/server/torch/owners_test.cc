// SPDX-License-Identifier: Apache-2.0
// Owners: device memory is zeroed exactly when it may hold somebody else's bytes.
#include "server/torch/cuda/owners.h"

#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace djinn::server::cuda {
namespace {

constexpr uintptr_t kBase = 0x10000;

TEST(Owners, FreshMemoryIsZeroedAndOnesOwnIsNot) {
  Owners owners;
  EXPECT_EQ(owners.take(kBase, 1000, 1, false), 1024);
  owners.give_back(kBase);
  EXPECT_EQ(owners.take(kBase, 1024, 1, false), 0);
  owners.give_back(kBase);
  EXPECT_EQ(owners.take(kBase, 512, 2, false), 512);
  EXPECT_EQ(owners.take(kBase + 512, 512, 1, false), 0) << "the other half is still its own";
}

TEST(Owners, WhatIsOverwrittenIsNotZeroedButItsLastGranuleIsNotTrusted) {
  Owners owners;
  EXPECT_EQ(owners.take(kBase, 700, 1, true), 0);
  owners.give_back(kBase);
  EXPECT_EQ(owners.take(kBase, 512, 1, false), 0);
  owners.give_back(kBase);
  EXPECT_EQ(owners.take(kBase, 1024, 1, false), 1024);
}

TEST(Owners, MergedNeighboursAreOneRange) {
  Owners owners;
  for (const uint64_t i : {0, 1, 2, 3}) owners.take(kBase + 512 * i, 512, 1, false);
  for (const uint64_t i : {1, 3, 0, 2}) owners.give_back(kBase + 512 * i);
  EXPECT_EQ(owners.take(kBase, 2048, 1, false), 0);
}

TEST(Owners, WhatTheDriverHadIsNobodys) {
  Owners owners;
  owners.take(kBase, 2048, 1, false);
  owners.give_back(kBase);
  owners.forget(kBase + 512, 512);
  EXPECT_EQ(owners.take(kBase, 512, 1, false), 0);
  EXPECT_EQ(owners.take(kBase + 512, 512, 1, false), 512);
  EXPECT_EQ(owners.take(kBase + 1024, 1024, 1, false), 0);
}

TEST(Owners, WorkForNobodyLeavesItsMemoryToNobody) {
  Owners owners;
  EXPECT_EQ(owners.take(kBase, 512, Owners::kNobody, false), 512);
  owners.give_back(kBase);
  EXPECT_EQ(owners.take(kBase, 512, Owners::kNobody, false), 512);
}

// Against an array that remembers for each granule who wrote it last.
TEST(Owners, NoSessionEverSeesBytesOfAnother) {
  const uint64_t seed = 20261122;
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  constexpr size_t kGranules = 64;
  constexpr size_t kSize = Owners::kGranule;
  std::vector<uint64_t> wrote(kGranules, 99);  // by granule; 99: somebody before us
  std::vector<bool> used(kGranules, false);
  std::map<size_t, size_t> blocks;  // first granule -> count
  Owners owners;
  size_t spared = 0;
  for (int round = 0; round < 20000; ++round) {
    const size_t first = random() % kGranules;
    const size_t count = 1 + random() % 6;
    if (random() % 50 == 0) {
      bool all_free = first + count <= kGranules;
      for (size_t i = first; all_free && i < first + count; ++i) all_free = !used[i];
      if (!all_free) continue;
      owners.forget(kBase + first * kSize, count * kSize);
      for (size_t i = first; i < first + count; ++i) wrote[i] = 99;
      continue;
    }
    if (blocks.contains(first)) {
      owners.give_back(kBase + first * kSize);
      for (size_t i = first; i < first + blocks[first]; ++i) used[i] = false;
      blocks.erase(first);
      continue;
    }
    bool fits = first + count <= kGranules;
    for (size_t i = first; fits && i < first + count; ++i) fits = !used[i];
    if (!fits) continue;
    const uint64_t session = 1 + random() % 3;
    const bool overwritten = random() % 4 == 0;
    const size_t zeroed = owners.take(kBase + first * kSize, count * kSize, session, overwritten);
    ASSERT_TRUE(zeroed == 0 || zeroed == count * kSize);
    spared += zeroed == 0 && !overwritten ? 1 : 0;
    for (size_t i = first; i < first + count; ++i) {
      used[i] = true;
      if (zeroed != 0 || overwritten) wrote[i] = session;
      ASSERT_EQ(wrote[i], session) << "granule " << i << " in round " << round;
    }
    blocks[first] = count;
  }
  EXPECT_GT(spared, 100);
}

}  // namespace
}  // namespace djinn::server::cuda
