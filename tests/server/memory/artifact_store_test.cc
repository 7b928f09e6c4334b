// SPDX-License-Identifier: Apache-2.0
#include "server/memory/artifact_store.h"

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace djinn::server {
namespace {

std::atomic<int> buffers_alive = 0;

class HeapBuffer final : public Buffer {
 public:
  HeapBuffer(size_t size, uint8_t fill) : data_(size, std::byte(fill)) { ++buffers_alive; }
  ~HeapBuffer() override { --buffers_alive; }
  HeapBuffer(const HeapBuffer&) = delete;
  HeapBuffer& operator=(const HeapBuffer&) = delete;
  std::span<std::byte> bytes() override { return data_; }

 private:
  std::vector<std::byte> data_;
};

struct Artifacts : ::testing::Test {
  static constexpr size_t kSize = 1000;
  const ArtifactKey key = random_artifact_key();

  [[nodiscard]] ArtifactName name(uint8_t fill) const {
    return artifact_name(key, std::vector<std::byte>(kSize, std::byte(fill)));
  }
  static std::shared_ptr<Buffer> content(uint8_t fill) {
    return std::make_shared<HeapBuffer>(kSize, fill);
  }
  static void ignore(bool /*good*/) {}
};

TEST_F(Artifacts, NamesDependOnKeyAndContent) {
  EXPECT_NE(name(1), name(2));
  EXPECT_NE(name(1),
            artifact_name(random_artifact_key(), std::vector<std::byte>(kSize, std::byte{1})));
}

TEST_F(Artifacts, AreSharedOnceTheyAreVerified) {
  ArtifactStore store(key, 1 << 20);
  std::atomic<int> verdict = -1;
  const auto first = store.add(name(1), content(1), [&](bool good) { verdict = good ? 1 : 0; });
  store.settle();
  EXPECT_EQ(verdict, 1);
  const auto second = store.offer(name(1), kSize);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second.get(), first.get());
  EXPECT_EQ(store.offer(name(1), kSize - 1), nullptr) << "another length is another content";
  EXPECT_EQ(store.offer(name(2), kSize), nullptr);
  const auto stats = store.stats();
  EXPECT_EQ(stats.offers, 3U);
  EXPECT_EQ(stats.hits, 1U);
  EXPECT_EQ(stats.bytes_saved, kSize);
}

TEST_F(Artifacts, AreNotSharedUnderAWrongName) {
  ArtifactStore store(key, 1 << 20);
  std::atomic<int> verdict = -1;
  const auto mine = store.add(name(1), content(2), [&](bool good) { verdict = good ? 1 : 0; });
  store.settle();
  EXPECT_EQ(verdict, 0);
  EXPECT_EQ(store.find(name(1), kSize), nullptr);
  EXPECT_EQ(store.find(name(2), kSize), nullptr);
  EXPECT_EQ(mine->bytes()[0], std::byte{2}) << "its own bytes are still its own";
}

TEST_F(Artifacts, OfTwoUploadersTheFirstIsShared) {
  ArtifactStore store(key, 1 << 20);
  const auto one = store.add(name(1), content(1), ignore);
  const auto two = store.add(name(1), content(1), ignore);
  store.settle();
  EXPECT_NE(one.get(), two.get());
  EXPECT_EQ(store.find(name(1), kSize).get(), one.get());
  EXPECT_EQ(store.stats().artifacts, 1U);
}

TEST_F(Artifacts, StayForTheNextOneLeastRecentlyUsedFirstOut) {
  ArtifactStore store(key, 2 * kSize);
  std::vector<std::shared_ptr<Buffer>> used;
  for (uint8_t i = 1; i <= 3; ++i) used.push_back(store.add(name(i), content(i), ignore));
  store.settle();
  EXPECT_EQ(store.stats().unused_bytes, 0U);
  used.clear();
  EXPECT_EQ(store.stats().unused_bytes, 2 * kSize);
  EXPECT_EQ(store.find(name(1), kSize), nullptr) << "it was given back first";
  EXPECT_NE(store.find(name(2), kSize), nullptr);
  EXPECT_NE(store.find(name(3), kSize), nullptr);
  EXPECT_EQ(store.stats().evicted_bytes, kSize);
}

TEST_F(Artifacts, AreNeverEvictedWhileTheyAreUsed) {
  ArtifactStore store(key, 0);
  auto used = store.add(name(1), content(1), ignore);
  store.settle();
  EXPECT_EQ(store.evict(1 << 30), 0U);
  EXPECT_EQ(store.find(name(1), kSize).get(), used.get());
  used.reset();
  EXPECT_EQ(store.find(name(1), kSize), nullptr);
}

TEST_F(Artifacts, AreEvictedWhenMemoryIsWanted) {
  ArtifactStore store(key, 1 << 20);
  for (uint8_t i = 1; i <= 3; ++i) (void)store.add(name(i), content(i), ignore);
  store.settle();
  EXPECT_EQ(store.evict(kSize + 1), 2 * kSize);
  EXPECT_EQ(store.stats().artifacts, 1U);
  EXPECT_EQ(buffers_alive, 1);
}

TEST_F(Artifacts, MayOutliveTheirStore) {
  std::shared_ptr<Buffer> used;
  {
    ArtifactStore store(key, 1 << 20);
    used = store.add(name(1), content(1), ignore);
    store.settle();
  }
  EXPECT_EQ(used->bytes().size(), kSize);
  used.reset();
  EXPECT_EQ(buffers_alive, 0);
}

TEST_F(Artifacts, AreUsedFromManyThreads) {
  ArtifactStore store(key, 2 * kSize);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i) {
        const auto fill = static_cast<uint8_t>((i + t) % 5);
        auto buffer = store.offer(name(fill), kSize);
        if (buffer == nullptr) buffer = store.add(name(fill), content(fill), ignore);
        if (buffer->bytes()[kSize - 1] != std::byte(fill)) std::abort();
        if (i % 50 == 0) store.evict(kSize);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  store.settle();
  EXPECT_LE(store.stats().unused_bytes, 2 * kSize);
  EXPECT_EQ(store.stats().refused, 0U);
}

}  // namespace
}  // namespace djinn::server
