// SPDX-License-Identifier: Apache-2.0
// Tiers over two small memories: what moves, what stays, and that the bytes are always the same.
#include "server/memory/tiers.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "tests/support/arena_tier.h"
#include "tests/support/seed.h"

namespace djinn::server {
namespace {

using djinn::testing::ArenaTier;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLine = 64;

// Heap memory with a budget; fails on request.
class HeapTier final : public TierMemory {
 public:
  explicit HeapTier(uint64_t budget) : budget_(budget) {}
  ~HeapTier() override { EXPECT_EQ(used_, 0U) << "everything was released"; }
  void* allocate(uint64_t bytes, const Owner& /*owner*/) override {
    const MutexLock lock(mutex_);
    if (used_ + bytes > budget_) return nullptr;
    used_ += bytes;
    peak_ = std::max(peak_, used_);
    auto* const block = new (std::align_val_t{kLine}) std::byte[kLine + bytes];
    std::memcpy(block, &bytes, sizeof bytes);
    return block + kLine;
  }
  void release(void* memory) override {
    const MutexLock lock(mutex_);
    auto* const block = static_cast<std::byte*>(memory) - kLine;
    uint64_t bytes = 0;
    std::memcpy(&bytes, block, sizeof bytes);
    used_ -= bytes;
    ::operator delete[](block, std::align_val_t{kLine});
  }
  [[nodiscard]] MemoryUsage usage() const override {
    const MutexLock lock(mutex_);
    return {.budget = budget_, .used = used_, .peak = peak_, .largest_free = budget_ - used_};
  }

 private:
  const uint64_t budget_;
  mutable Mutex mutex_;
  uint64_t used_ GUARDED_BY(mutex_) = 0;
  uint64_t peak_ GUARDED_BY(mutex_) = 0;
};

struct TiersTest : ::testing::Test {
  void make(uint64_t device_pages, uint64_t host_pages, const char* policy) {
    device = std::make_unique<HeapTier>(device_pages * kPage);
    host = std::make_unique<HeapTier>(host_pages * kPage);
    tiers = std::make_shared<Tiers>(*device, *host,
                                    Tiers::Options{.policy = std::move(*make_policy(policy))});
  }
  // A page full of `fill`, on the device; the rest may have to leave for it.
  TieredBufferPtr page(uint8_t fill) {
    void* memory = device->allocate(kPage, {});
    while (memory == nullptr && tiers->make_room(kPage, nullptr))
      memory = device->allocate(kPage, {});
    if (memory == nullptr) return nullptr;
    std::memset(memory, fill, kPage);
    TieredBufferPtr buffer = tiers->adopt(memory, kPage, {});
    done(*buffer, true);
    return buffer;
  }
  void done(TieredBuffer& buffer, bool written = false, uint64_t next_use = kNeverUsed) {
    const Tiers::Use use{.buffer = &buffer, .next_use = next_use, .written = written};
    tiers->unpin(std::span(&use, 1));
  }
  bool pin(TieredBuffer& buffer) {
    TieredBuffer* const one = &buffer;
    return static_cast<bool>(tiers->pin(std::span(&one, 1)));
  }
  int first_byte(TieredBuffer& buffer) {
    if (!pin(buffer)) return -1;
    const int byte = *static_cast<uint8_t*>(buffer.device());
    done(buffer);
    return byte;
  }

  std::unique_ptr<HeapTier> device;
  std::unique_ptr<HeapTier> host;
  std::shared_ptr<Tiers> tiers;
};

TEST_F(TiersTest, BytesThatLeftTheDeviceComeBackUnchanged) {
  make(2, 8, "lru");
  std::vector<TieredBufferPtr> pages;
  for (uint8_t i = 0; i < 6; ++i) pages.push_back(page(i));
  EXPECT_EQ(tiers->stats().spills, 4U);
  for (uint8_t i = 0; i < 6; ++i) EXPECT_EQ(first_byte(*pages[i]), i);
  EXPECT_LE(device->usage().peak, 2 * kPage);
}

TEST_F(TiersTest, WhatTheHostHasAlreadyIsDroppedAndNotCopiedAgain) {
  make(1, 8, "lru");
  const TieredBufferPtr a = page(1);
  const TieredBufferPtr b = page(2);
  EXPECT_EQ(tiers->stats().spills, 1U);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(first_byte(*a), 1);
    EXPECT_EQ(first_byte(*b), 2);
  }
  EXPECT_EQ(tiers->stats().spills, 2U) << "each was copied out once";
  EXPECT_EQ(tiers->stats().drops, 9U);
}

TEST_F(TiersTest, WhatIsNotOnTheDeviceTakesTimeToCome) {
  make(2, 8, "lru");
  const TieredBufferPtr away = page(1);
  EXPECT_EQ(tiers->copies(), 0U);
  const TieredBufferPtr b = page(2);
  const TieredBufferPtr c = page(3);  // `away` has left for it.
  EXPECT_EQ(tiers->copies(), 1U);
  const TieredBuffer* const there[] = {b.get(), c.get()};
  EXPECT_EQ(tiers->load_ns(there), 0U);
  const TieredBuffer* const all[] = {away.get(), b.get(), c.get()};
  EXPECT_GT(tiers->load_ns(all), 0U);
}

TEST_F(TiersTest, WhatWasWrittenIsCopiedOutAgain) {
  make(1, 8, "lru");
  const TieredBufferPtr a = page(1);
  const TieredBufferPtr b = page(2);
  ASSERT_TRUE(pin(*a));
  std::memset(a->device(), 3, kPage);
  done(*a, true);
  EXPECT_EQ(first_byte(*b), 2);
  EXPECT_EQ(first_byte(*a), 3);
}

TEST_F(TiersTest, WhatIsPinnedStaysAndWhatCannotFitBesideItIsRefused) {
  make(2, 8, "plan");
  const TieredBufferPtr a = page(1);
  const TieredBufferPtr b = page(2);
  const TieredBufferPtr c = page(3);
  TieredBuffer* const all[] = {a.get(), b.get(), c.get()};
  const auto pinned = tiers->pin(all);
  ASSERT_FALSE(pinned);
  EXPECT_EQ(pinned.error().code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(tiers->stats().refusals, 1U);
  EXPECT_EQ(first_byte(*a) + first_byte(*b) + first_byte(*c), 6) << "nothing is lost by it";
}

TEST_F(TiersTest, NothingIsLostWhenTheHostIsFullToo) {
  make(2, 2, "plan");
  std::vector<TieredBufferPtr> pages;
  for (uint8_t i = 0; i < 4; ++i) pages.push_back(page(i));
  EXPECT_EQ(page(9), nullptr);
  for (uint8_t i = 2; i < 4; ++i) EXPECT_EQ(first_byte(*pages[i]), i);
  pages[3].reset();
  for (uint8_t i = 0; i < 3; ++i) EXPECT_EQ(first_byte(*pages[i]), i);
}

TEST_F(TiersTest, WithThePolicyNoneNothingLeaves) {
  make(2, 8, "none");
  const TieredBufferPtr a = page(1);
  const TieredBufferPtr b = page(2);
  EXPECT_EQ(page(3), nullptr);
  EXPECT_EQ(tiers->stage(kPage, {}), nullptr);
  EXPECT_EQ(tiers->stats().spills, 0U);
}

TEST_F(TiersTest, ThePlanSaysWhoLeaves) {
  make(2, 8, "plan");
  const TieredBufferPtr soon = page(1);
  const TieredBufferPtr later = page(2);
  const uint64_t now = tiers->now();
  const Tiers::Use uses[] = {{.buffer = soon.get(), .next_use = now + 10},
                             {.buffer = later.get(), .next_use = now + 20}};
  tiers->expect(uses, 0);
  const TieredBufferPtr other = page(3);
  ASSERT_TRUE(pin(*soon));
  EXPECT_EQ(tiers->stats().loads, 0U) << "it had stayed";
  done(*soon);
}

TEST_F(TiersTest, TheMoverBringsWhatIsUsedNextBeforeItIsMissed) {
  make(2, 8, "plan");
  const TieredBufferPtr next = page(1);
  const TieredBufferPtr b = page(2);
  const TieredBufferPtr c = page(3);  // One of them had to leave.
  const uint64_t now = tiers->now();
  const Tiers::Use uses[] = {{.buffer = next.get(), .next_use = now + 1},
                             {.buffer = b.get(), .next_use = now + 50},
                             {.buffer = c.get(), .next_use = now + 60}};
  tiers->expect(uses, 0);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (tiers->stats().prefetches == 0 && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_EQ(tiers->stats().prefetches, 1U);
  EXPECT_EQ(first_byte(*next), 1);
  EXPECT_EQ(tiers->stats().useful + tiers->stats().late, 1U);
  EXPECT_EQ(tiers->stats().loads, 0U);
}

// Layers in turn, a quarter of which does not fit: 5 of 20 must travel in a step, and if they are
// brought as soon as there is somebody to trade with, 19 do.
TEST_F(TiersTest, WhatCanStayStaysAndOnlyTheRestTravels) {
  constexpr int kLayers = 20;
  constexpr int kWarm = 12;
  constexpr int kSteps = 24;
  make(15, 64, "plan");
  std::vector<TieredBufferPtr> layers;
  for (uint8_t i = 0; i < kLayers; ++i) {
    layers.push_back(tiers->stage(kPage, {}));
    std::memset(layers.back()->staged(), i, kPage);
    tiers->let_go(*layers.back());
  }
  uint64_t travelled = 0;
  for (int step = 0; step < kSteps; ++step) {
    const TierStats before = tiers->stats();
    std::vector<Tiers::Use> uses;
    uses.reserve(kLayers);
    for (const TieredBufferPtr& layer : layers) {
      uses.push_back({.buffer = layer.get(), .next_use = tiers->now() + uses.size()});
    }
    tiers->expect(uses, 0);
    uint8_t number = 0;
    for (const TieredBufferPtr& layer : layers) {
      ASSERT_TRUE(pin(*layer));
      ASSERT_EQ(*static_cast<uint8_t*>(layer->device()), number++);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      done(*layer, false, tiers->now() + kLayers);
    }
    const TierStats after = tiers->stats();
    if (step < kWarm) continue;  // Each was copied to the host once, and the pace is known.
    travelled += after.loads + after.prefetches - before.loads - before.prefetches;
  }
  EXPECT_GE(travelled, 5U * (kSteps - kWarm));
  EXPECT_LE(travelled, 10U * (kSteps - kWarm));
}

TEST_F(TiersTest, StagedBytesStayWhereTheyAreUntilTheyAreLetGo) {
  make(2, 8, "plan");
  const TieredBufferPtr staged = tiers->stage(kPage, {});
  std::memset(staged->staged(), 5, kPage);
  std::vector<TieredBufferPtr> pages;
  for (uint8_t i = 0; i < 5; ++i) pages.push_back(page(i));
  EXPECT_EQ(*static_cast<uint8_t*>(staged->staged()), 5);
  tiers->let_go(*staged);
  for (uint8_t i = 0; i < 5; ++i) EXPECT_EQ(first_byte(*pages[i]), i);
  EXPECT_EQ(first_byte(*staged), 5);
}

TEST_F(TiersTest, WhatArrivesIsInNobodysWay) {
  make(2, 8, "plan");
  std::vector<TieredBufferPtr> staged;
  for (uint8_t i = 0; i < 5; ++i) {
    staged.push_back(tiers->stage(kPage, {}));
    std::memset(staged.back()->staged(), 10 + i, kPage);
  }
  const TieredBufferPtr a = page(1);
  const TieredBufferPtr b = page(2);
  TieredBuffer* const both[] = {a.get(), b.get()};
  ASSERT_TRUE(tiers->pin(both)) << "nothing that arrives is on the device";
  done(*a);
  done(*b);
  for (uint8_t i = 0; i < 5; ++i) {
    EXPECT_EQ(first_byte(*staged[i]), 10 + i) << "it can be used before it is let go";
    EXPECT_EQ(*static_cast<uint8_t*>(staged[i]->staged()), 10 + i);
    tiers->let_go(*staged[i]);
  }
}

TEST_F(TiersTest, WhereEverythingFitsNothingIsThereTwice) {
  make(8, 8, "plan");
  const TieredBufferPtr one = tiers->stage(kPage, {});
  const TieredBufferPtr other = tiers->stage(kPage, {});
  tiers->let_go(*one);
  EXPECT_EQ(host->usage().used, 2 * kPage);
  EXPECT_NE(first_byte(*one), -1);
  EXPECT_NE(first_byte(*other), -1);
  EXPECT_EQ(host->usage().used, kPage) << "the other may still be read where it arrived";
  tiers->let_go(*other);
  EXPECT_EQ(host->usage().used, 0U);
  EXPECT_EQ(device->usage().used, 2 * kPage);
}

TEST_F(TiersTest, StagesOnTheHostWhenTheDeviceIsFull) {
  make(1, 2, "plan");
  const TieredBufferPtr resident = page(1);
  const TieredBufferPtr staged = tiers->stage(kPage, {});
  ASSERT_NE(staged, nullptr);
  std::memset(staged->staged(), 5, kPage);
  tiers->let_go(*staged);
  EXPECT_EQ(first_byte(*staged), 5);
  const TieredBufferPtr second = tiers->stage(kPage, {});
  EXPECT_EQ(tiers->stage(kPage, {}), nullptr) << "both tiers are full";
}

struct Sized {
  TieredBufferPtr buffer;
  uint8_t fill = 0;
};

// An operator like any other: some operands, one result that takes all the room that is left, in a
// device whose blocks of all lengths come and go. It fits whenever the bytes are there, also where
// a mover brings things back meanwhile.
class TiersInAnArena : public ::testing::TestWithParam<const char*> {};

TEST_P(TiersInAnArena, RefuseNothingWhoseBytesWouldFitIfTheyLayTogether) {
  constexpr uint64_t kBudget = uint64_t{1} << 20;
  constexpr uint64_t kSlack = 4096;  // administration of the blocks
  // At most 100 small blocks of up to 1,128 bytes, and the gaps between them.
  constexpr uint64_t kSmallPart = uint64_t{144} << 10;
  const auto seed = static_cast<uint32_t>(test_seed());
  std::printf("DJINN_SEED=%u\n", seed);
  std::mt19937 random(seed);
  ArenaTier device(kBudget);
  ArenaTier host(uint64_t{64} << 20);
  const auto tiers = std::make_shared<Tiers>(
      device, host, Tiers::Options{.policy = std::move(*make_policy(GetParam()))});
  std::vector<Sized> all;
  std::vector<std::pair<void*, uint64_t>> small;
  for (int step = 0; step < 4000; ++step) {
    SCOPED_TRACE(step);
    if (small.size() < 100 && random() % 2 == 0) {
      const uint64_t bytes = 1 + random() % 1000;
      void* memory = device.small(bytes);
      while (memory == nullptr && tiers->make_room(bytes, nullptr)) memory = device.small(bytes);
      ASSERT_NE(memory, nullptr);
      small.emplace_back(memory, bytes);
    } else if (!small.empty() && random() % 2 == 0) {
      std::swap(small[random() % small.size()], small.back());
      device.release(small.back().first);
      small.pop_back();
    }
    if (all.size() > 30) {
      std::swap(all[random() % all.size()], all.back());
      all.pop_back();
    }
    std::set<size_t> chosen;
    uint64_t free = kBudget - kSmallPart - kSlack;
    for (int i = 0; i < 3 && !all.empty(); ++i) {
      const size_t at = random() % all.size();
      if (all[at].buffer->bytes() + 4 * kSlack > free || !chosen.insert(at).second) continue;
      free -= all[at].buffer->bytes() + 2 * Arena::kGranule;
    }
    std::vector<TieredBuffer*> operands;
    operands.reserve(chosen.size());
    std::vector<Tiers::Use> uses;
    for (const size_t at : chosen) operands.push_back(all[at].buffer.get());
    const uint64_t bytes = random() % 4 == 0 ? free - kSlack : 1 + random() % (free / 4);
    const auto pinned = tiers->pin(operands, bytes);
    ASSERT_TRUE(pinned) << pinned.error().message;
    void* memory = device.allocate(bytes, {});
    // Short parts are promised to nobody; where one is taken meanwhile, another is long enough.
    while (memory == nullptr && bytes < kTieredBytesMin && tiers->make_room(bytes, nullptr)) {
      memory = device.allocate(bytes, {});
    }
    ASSERT_NE(memory, nullptr) << bytes << " of " << free << ", longest "
                               << device.usage().largest_free;
    const auto fill = static_cast<uint8_t>(random());
    std::memset(memory, fill, bytes);
    all.push_back({tiers->adopt(memory, bytes, {}), fill});
    uses.push_back({.buffer = all.back().buffer.get(), .written = true});
    for (const size_t at : chosen) {
      const auto* const is = static_cast<const uint8_t*>(all[at].buffer->device());
      ASSERT_EQ(is[0], all[at].fill);
      ASSERT_EQ(is[all[at].buffer->bytes() - 1], all[at].fill);
      uses.push_back({.buffer = all[at].buffer.get(), .next_use = tiers->now() + random() % 30});
    }
    tiers->unpin(uses);
    ASSERT_LE(device.usage().peak, kBudget);
  }
  EXPECT_GT(tiers->stats().packs, 0U);
  EXPECT_EQ(tiers->stats().refusals, 0U);
  for (const auto& [memory, bytes] : small) device.release(memory);
}

INSTANTIATE_TEST_SUITE_P(Policies, TiersInAnArena, ::testing::Values("plan", "lru"),
                         [](const auto& param) { return std::string(param.param); });

TEST_F(TiersTest, MovesNothingForWhatCanNeverFit) {
  make(2, 8, "plan");
  const TieredBufferPtr a = page(1);
  const TieredBufferPtr b = page(2);
  TieredBuffer* const one = a.get();
  const auto pinned = tiers->pin(std::span(&one, 1), 2 * kPage);
  ASSERT_FALSE(pinned);
  EXPECT_EQ(pinned.error().code, ErrorCode::kOutOfMemory);
  EXPECT_NE(pinned.error().message.find("raise --device-memory"), std::string::npos)
      << pinned.error().message;
  EXPECT_EQ(tiers->stats().spills, 0U);
}

uint64_t in_ms(int64_t ms) {
  const auto at = std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(at.time_since_epoch()).count());
}

template <typename Condition>
bool in_time(const Condition& condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST_F(TiersTest, WhatBelongsToASessionThatPausesLeavesFirst) {
  for (const char* policy : {"plan", "lru"}) {
    make(3, 8, policy);
    const TieredBufferPtr a = page(1);
    const TieredBufferPtr b = page(2);
    const TieredBufferPtr c = page(3);
    EXPECT_EQ(first_byte(*c), 3) << "it was used last";
    tiers->rest(7, {.own = {c.get()}, .shared = {}}, kNoTime);
    const TieredBufferPtr d = page(4);
    EXPECT_EQ(first_byte(*a) + first_byte(*b), 3);
    EXPECT_EQ(tiers->stats().loads, 0U) << policy;
    EXPECT_EQ(first_byte(*c), 3);
    EXPECT_EQ(tiers->stats().loads, 1U) << policy;
  }
}

TEST_F(TiersTest, ItIsBackWhenTheSessionGoesOnAndNotBefore) {
  make(2, 8, "plan");
  const TieredBufferPtr cache = page(1);
  const TieredBufferPtr weights = page(2);
  tiers->rest(7, {.own = {cache.get()}, .shared = {weights.get()}}, in_ms(300));
  const TieredBufferPtr b = page(3);
  const TieredBufferPtr c = page(4);  // Both of them had to leave.
  ASSERT_EQ(tiers->stats().spills, 2U);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(tiers->stats().prefetches, 0U);
  ASSERT_TRUE(in_time([&] { return tiers->stats().prefetches == 2; }));
  EXPECT_EQ(first_byte(*cache) + first_byte(*weights), 3);
  EXPECT_EQ(tiers->stats().loads, 0U);
}

TEST_F(TiersTest, ASessionThatGoesOnNowHasItsStateBack) {
  make(1, 8, "plan");
  const TieredBufferPtr cache = page(1);
  tiers->rest(7, {.own = {cache.get()}, .shared = {}}, kNoTime);
  const TieredBufferPtr other = page(2);
  tiers->rest(7, {.own = {cache.get()}, .shared = {}}, 0);
  ASSERT_TRUE(in_time([&] { return tiers->stats().prefetches == 1; }));
  EXPECT_EQ(first_byte(*cache), 1);
  EXPECT_EQ(tiers->stats().loads, 0U);
}

TEST_F(TiersTest, ASessionThatWentOnEarlierIsNotWoken) {
  make(1, 8, "plan");
  const TieredBufferPtr cache = page(1);
  tiers->rest(7, {.own = {cache.get()}, .shared = {}}, in_ms(30));
  tiers->end_rest(7);
  EXPECT_EQ(first_byte(*cache), 1);
  const TieredBufferPtr other = page(2);
  std::this_thread::sleep_for(std::chrono::milliseconds(80));
  EXPECT_EQ(tiers->stats().prefetches, 0U);
}

// Random uses by one thread while the mover works and another thread stages and drops: contents are
// always what was written last, and no budget is ever exceeded.
TEST_F(TiersTest, KeepsEveryByteThroughRandomUse) {
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (const char* policy : {"plan", "lru"}) {
    make(6, 40, policy);
    std::atomic<bool> stop = false;
    std::thread stager([&] {
      while (!stop) {
        const TieredBufferPtr staged = tiers->stage(kPage, {});
        if (staged != nullptr) tiers->let_go(*staged);
        std::this_thread::yield();
      }
    });
    std::vector<TieredBufferPtr> pages;
    std::vector<uint8_t> expected;
    for (int step = 0; step < 3000; ++step) {
      const uint32_t what = random() % 8;
      if (pages.size() < 20 && (what == 0 || pages.empty())) {
        const auto fill = static_cast<uint8_t>(random());
        if (TieredBufferPtr made = page(fill)) {
          pages.push_back(std::move(made));
          expected.push_back(fill);
        }
        continue;
      }
      const size_t at = random() % pages.size();
      if (what == 1) {
        pages.erase(pages.begin() + static_cast<std::ptrdiff_t>(at));
        expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(at));
        continue;
      }
      if (what == 2) {
        const Tiers::Use use{.buffer = pages[at].get(), .next_use = tiers->now() + random() % 30};
        tiers->expect(std::span(&use, 1), random() % 2 * kPage);
        continue;
      }
      std::set<size_t> chosen{at, random() % pages.size(), random() % pages.size()};
      std::vector<TieredBuffer*> buffers;
      buffers.reserve(chosen.size());
      for (const size_t each : chosen) buffers.push_back(pages[each].get());
      if (!tiers->pin(buffers)) continue;
      std::vector<Tiers::Use> uses;
      for (const size_t each : chosen) {
        const auto* const bytes = static_cast<const uint8_t*>(pages[each]->device());
        ASSERT_EQ(bytes[0], expected[each]) << policy << " step " << step;
        ASSERT_EQ(bytes[kPage - 1], expected[each]) << policy << " step " << step;
        const bool write = random() % 3 == 0;
        if (write) {
          expected[each] = static_cast<uint8_t>(random());
          std::memset(pages[each]->device(), expected[each], kPage);
        }
        uses.push_back({.buffer = pages[each].get(),
                        .next_use = random() % 4 == 0 ? kNeverUsed : tiers->now() + random() % 30,
                        .written = write});
      }
      tiers->unpin(uses);
      ASSERT_LE(device->usage().peak, 6 * kPage);
    }
    stop = true;
    stager.join();
    pages.clear();
    tiers.reset();
  }
}

}  // namespace
}  // namespace djinn::server
