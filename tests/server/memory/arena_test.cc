// SPDX-License-Identifier: Apache-2.0
#include "server/memory/arena.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/seed.h"

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

TEST(ArenaTest, WhatIsTakenAtTheHighEndNeverCutsTheLowOne) {
  Arena arena(kMiB, true);
  const auto large = arena.take(kMiB / 2, 7);
  const auto small = arena.take(64, 7, Arena::End::kHigh);
  const auto wall = arena.take(kMiB / 4, 7);
  ASSERT_TRUE(large && small && wall);
  EXPECT_EQ(small->offset, kMiB - 64);
  arena.give_back(large->id);
  arena.give_back(wall->id);
  EXPECT_EQ(arena.largest_free(), kMiB - 64);
  EXPECT_TRUE(arena.take(kMiB - 64, 7)) << "the ends share what lies between them";
  EXPECT_FALSE(arena.take(64, 7, Arena::End::kHigh));
  arena.give_back(small->id);
  EXPECT_EQ(arena.take(64, 8, Arena::End::kHigh)->content, 7U) << "whose bytes it holds";
}

TEST(ArenaTest, ClosesAGapByMovingABlockOverIt) {
  for (const Arena::End end : {Arena::End::kLow, Arena::End::kHigh}) {
    Arena arena(kMiB, true);
    const auto outer = arena.take(4096, 7, end);
    const auto inner = arena.take(8192, 7, end);
    ASSERT_TRUE(outer && inner);
    EXPECT_FALSE(arena.open(inner->id)) << "there is no gap";
    arena.give_back(outer->id);
    const auto at = arena.open(inner->id);
    ASSERT_TRUE(at);
    EXPECT_EQ(*at, end == Arena::End::kLow ? 0 : kMiB - 8192);
    arena.close(inner->id, 8192);
    EXPECT_EQ(arena.used_bytes(), 8192U);
    EXPECT_EQ(arena.largest_free(), kMiB - 8192);
    EXPECT_EQ(arena.give_back(inner->id).bytes, 8192U + 4096U);
  }
}

TEST(ArenaTest, FoldsBothEndsIntoOneWhenItsLimitChanges) {
  Arena arena(kMiB, true);
  const auto low = arena.take(4096, 7);
  const auto high = arena.take(4096, 7, Arena::End::kHigh);
  arena.set_limit(kMiB / 2);
  EXPECT_FALSE(arena.take(64, 7, Arena::End::kHigh)) << "what is there reaches above the limit";
  arena.give_back(high->id);
  arena.set_limit(kMiB / 4);
  EXPECT_EQ(arena.take(64, 7, Arena::End::kHigh)->offset, kMiB / 4 - 64);
  EXPECT_EQ(arena.take(64, 7)->offset, low->offset + low->bytes);
}

// What the arena must know, as a map of its granules.
class ByteMap {
 public:
  explicit ByteMap(uint64_t granules, bool merge_zeros)
      : merge_zeros_(merge_zeros), wrote_(granules, Arena::kZeros), in_use_(granules, false) {}

  void take(const Arena::Block& block, uint64_t owner) {
    for (uint64_t at = block.offset / kStep; at < (block.offset + block.bytes) / kStep; ++at) {
      ASSERT_FALSE(in_use_[at]);
      in_use_[at] = true;
      used_ += kStep;
      if (block.content != Arena::kMixed) {
        ASSERT_EQ(wrote_[at], block.content);
      }
      wrote_[at] = owner;
    }
  }
  void give_back(uint64_t offset, uint64_t bytes) {
    for (uint64_t at = offset / kStep; at < (offset + bytes) / kStep; ++at) {
      used_ -= in_use_[at] ? kStep : 0;
      in_use_[at] = false;
    }
  }
  void zero(const Arena::Block& part) {
    for (uint64_t at = part.offset / kStep; at < (part.offset + part.bytes) / kStep; ++at) {
      wrote_[at] = Arena::kZeros;
    }
  }
  // Of what lies in [from, to), in bytes.
  [[nodiscard]] uint64_t longest_gap(uint64_t from, uint64_t to) const {
    uint64_t longest = 0;
    uint64_t gap = 0;
    for (uint64_t i = from / kStep; i < to / kStep; ++i) {
      const bool joined = merge_zeros_ || i == from / kStep ||
                          (wrote_[i] == Arena::kZeros) == (wrote_[i - 1] == Arena::kZeros);
      if (in_use_[i]) {
        gap = 0;
      } else {
        gap = joined ? gap + 1 : 1;
      }
      longest = std::max(longest, gap);
    }
    return longest * kStep;
  }
  [[nodiscard]] uint64_t used() const { return used_; }

 private:
  static constexpr uint64_t kStep = Arena::kGranule;
  bool merge_zeros_;
  std::vector<uint64_t> wrote_;
  std::vector<bool> in_use_;
  uint64_t used_ = 0;  // bytes
};

struct Held {
  Arena::Block block;
  Arena::End end = Arena::End::kLow;
  uint64_t owner = 0;
};

// The arena against a map of what is in use: blocks never overlap, sums agree, content is who wrote
// every byte of it, and a block is refused only if no gap at its end is as long.
void compare_with_a_map(std::mt19937& random, bool merge_zeros, bool both_ends) {
  constexpr uint64_t kBytes = 4096 * Arena::kGranule;
  Arena arena(kBytes, merge_zeros);
  ByteMap map(4096, merge_zeros);
  std::vector<Held> blocks;
  const auto longest_gap = [&](Arena::End end) {
    uint64_t from = 0;
    uint64_t to = kBytes;
    for (const Held& held : blocks) {
      if (held.end == end) continue;
      if (end == Arena::End::kLow) to = std::min(to, held.block.offset);
      if (end == Arena::End::kHigh) from = std::max(from, held.block.offset + held.block.bytes);
    }
    return map.longest_gap(from, to);
  };
  for (int step = 0; step < 20000; ++step) {
    SCOPED_TRACE(step);
    const auto what = random() % 5;
    if (what < 3) {
      const auto end = both_ends && random() % 2 == 0 ? Arena::End::kHigh : Arena::End::kLow;
      const uint64_t owner = 1 + random() % 3;
      const uint64_t bytes = 1 + random() % (random() % 8 == 0 ? 40000 : 900);
      const auto block = arena.take(bytes, owner, end);
      if (!block) {
        ASSERT_LT(longest_gap(end), bytes);
        continue;
      }
      ASSERT_GE(block->bytes, bytes);
      map.take(*block, owner);
      blocks.push_back({*block, end, owner});
    } else if (!blocks.empty()) {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      Held& held = blocks.back();
      const auto to = random() % 3 == 0 && merge_zeros ? arena.open(held.block.id) : std::nullopt;
      if (to) {
        map.give_back(held.block.offset, held.block.bytes);
        held.block.offset = *to;
        held.block.content = Arena::kMixed;
        map.take(held.block, held.owner);
        arena.close(held.block.id, held.block.bytes);
      } else {
        map.give_back(held.block.offset, held.block.bytes);
        const Arena::Block part = arena.give_back(held.block.id);
        blocks.pop_back();
        if (random() % 16 == 0) {
          arena.zeroed(part.id);
          map.zero(part);
        }
      }
    }
    if (::testing::Test::HasFatalFailure()) return;
    ASSERT_EQ(arena.used_bytes(), map.used());
    if (step % 64 != 0 || !merge_zeros) continue;
    ASSERT_EQ(arena.largest_free(Arena::End::kLow), longest_gap(Arena::End::kLow));
    ASSERT_EQ(arena.largest_free(Arena::End::kHigh), longest_gap(Arena::End::kHigh));
  }
  for (const Held& held : blocks) arena.give_back(held.block.id);
  EXPECT_EQ(arena.used_bytes(), 0U);
  if (merge_zeros) {
    EXPECT_EQ(arena.largest_free(), kBytes);
  }
}

TEST(ArenaTest, AgreesWithAMapOfBytesOnRandomRequests) {
  const auto seed = static_cast<uint32_t>(test_seed());
  std::printf("DJINN_SEED=%u\n", seed);
  std::mt19937 random(seed);
  compare_with_a_map(random, true, false);
  compare_with_a_map(random, false, false);
  compare_with_a_map(random, true, true);
}

}  // namespace
}  // namespace djinn::server
