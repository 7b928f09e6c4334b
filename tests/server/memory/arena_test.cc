// SPDX-License-Identifier: Apache-2.0
#include "server/memory/arena.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace djinn::server {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(ArenaTest, GivesBlocksThatDoNotOverlapAndMergesThemAgain) {
  Arena arena(kMiB, true);
  const auto a = arena.take(1000, 7);
  const auto b = arena.take(64, 7);
  const auto c = arena.take(5000, 7);
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(a->bytes, 1024U);
  EXPECT_EQ(b->offset, a->offset + a->bytes);
  EXPECT_EQ(c->offset, b->offset + b->bytes);
  EXPECT_EQ(arena.used_bytes(), a->bytes + b->bytes + c->bytes);
  arena.give_back(a->id);
  arena.give_back(c->id);
  EXPECT_EQ(arena.give_back(b->id).bytes, a->bytes + b->bytes + c->bytes);
  EXPECT_EQ(arena.used_bytes(), 0U);
  EXPECT_EQ(arena.largest_free(), kMiB);
}

TEST(ArenaTest, GivesWhatItSaysIsTheLongestAndNothingLonger) {
  Arena arena(kMiB, true);
  const auto low = arena.take(kMiB / 4, 7);
  const auto high = arena.take(kMiB / 2, 7);
  ASSERT_TRUE(low && high);
  arena.give_back(low->id);
  EXPECT_EQ(arena.largest_free(), kMiB / 4);
  EXPECT_FALSE(arena.take(kMiB / 4 + 1, 7)) << "half of the arena is free, in two parts";
  EXPECT_TRUE(arena.take(kMiB / 4, 7));
}

TEST(ArenaTest, SaysWhoseBytesABlockHolds) {
  Arena arena(kMiB, true);
  const auto mine = arena.take(4096, 7);
  const auto wall = arena.take(64, 9);
  ASSERT_TRUE(mine && wall);
  EXPECT_EQ(mine->content, Arena::kZeros) << "nobody has written it";
  arena.give_back(mine->id);
  const auto again = arena.take(4096, 8);
  EXPECT_EQ(again->content, 7U);
  arena.give_back(again->id);
  arena.give_back(wall->id);
  EXPECT_EQ(arena.take(4160, 8)->content, Arena::kMixed) << "two owners' parts, merged";
}

TEST(ArenaTest, RemembersZerosIfTheyDoNotMerge) {
  Arena arena(kMiB, false);
  const auto first = arena.take(4096, 7);
  const auto second = arena.take(4096, 7);
  arena.zeroed(arena.give_back(first->id).id);
  EXPECT_EQ(arena.waiting_bytes(), 0U);
  arena.give_back(second->id);
  EXPECT_EQ(arena.waiting_bytes(), 4096U);
  const auto lent = arena.take(4096, 8);
  EXPECT_EQ(lent->content, 7U) << "the one that became free last";
  EXPECT_EQ(arena.take(4096, 8)->content, Arena::kZeros);
}

TEST(ArenaTest, KeepsToALimitThatIsSetLater) {
  Arena arena(kMiB, true);
  const auto block = arena.take(kMiB / 2, 7);
  arena.set_limit(kMiB / 4);
  EXPECT_FALSE(arena.take(64, 7));
  arena.give_back(block->id);
  EXPECT_TRUE(arena.take(64, 7));
}

// The arena against a map of what is in use: blocks never overlap, sums agree, content is who wrote
// every byte of it, and a block is refused only if no gap is as long.
TEST(ArenaTest, AgreesWithAMapOfBytesOnRandomRequests) {
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (const bool merge_zeros : {true, false}) {
    constexpr uint64_t kGranules = 4096;
    Arena arena(kGranules * Arena::kGranule, merge_zeros);
    std::vector<uint64_t> wrote(kGranules, Arena::kZeros);
    std::vector<bool> in_use(kGranules, false);
    std::vector<Arena::Block> blocks;
    const auto longest_gap = [&] {
      uint64_t longest = 0;
      uint64_t gap = 0;
      for (uint64_t i = 0; i < kGranules; ++i) {
        const bool joined =
            merge_zeros || i == 0 || (wrote[i] == Arena::kZeros) == (wrote[i - 1] == Arena::kZeros);
        if (in_use[i])
          gap = 0;
        else
          gap = joined ? gap + 1 : 1;
        longest = std::max(longest, gap);
      }
      return longest * Arena::kGranule;
    };
    for (int step = 0; step < 20000; ++step) {
      if (random() % 5 < 3) {
        const uint64_t owner = 1 + random() % 3;
        const uint64_t bytes = 1 + random() % (random() % 8 == 0 ? 40000 : 900);
        const auto block = arena.take(bytes, owner);
        if (!block) {
          ASSERT_LT(longest_gap(), bytes) << "step " << step;
          continue;
        }
        ASSERT_GE(block->bytes, bytes);
        for (uint64_t i = 0; i < block->bytes / Arena::kGranule; ++i) {
          const uint64_t at = block->offset / Arena::kGranule + i;
          ASSERT_FALSE(in_use[at]) << "step " << step;
          in_use[at] = true;
          if (block->content != Arena::kMixed) {
            ASSERT_EQ(wrote[at], block->content) << "step " << step;
          }
          wrote[at] = owner;
        }
        blocks.push_back(*block);
      } else if (!blocks.empty()) {
        std::swap(blocks[random() % blocks.size()], blocks.back());
        const Arena::Block gone = blocks.back();
        blocks.pop_back();
        for (uint64_t i = 0; i < gone.bytes / Arena::kGranule; ++i) {
          in_use[gone.offset / Arena::kGranule + i] = false;
        }
        const Arena::Block part = arena.give_back(gone.id);
        if (random() % 16 == 0) {
          arena.zeroed(part.id);
          for (uint64_t i = 0; i < part.bytes / Arena::kGranule; ++i) {
            wrote[part.offset / Arena::kGranule + i] = Arena::kZeros;
          }
        }
      }
      const auto used = static_cast<uint64_t>(std::ranges::count(in_use, true));
      ASSERT_EQ(arena.used_bytes(), used * Arena::kGranule) << "step " << step;
      if (step % 64 == 0 && merge_zeros) {
        ASSERT_EQ(arena.largest_free(), longest_gap());
      }
    }
    while (!blocks.empty()) {
      arena.give_back(blocks.back().id);
      blocks.pop_back();
    }
    EXPECT_EQ(arena.used_bytes(), 0U);
  }
}

}  // namespace
}  // namespace djinn::server
