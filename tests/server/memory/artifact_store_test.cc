// SPDX-License-Identifier: Apache-2.0
#include "server/memory/artifact_store.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/model_file.h"

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

// Content that nobody can read until it is let.
class ShyBuffer final : public Buffer {
 public:
  ShyBuffer(std::shared_ptr<Buffer> content, std::shared_future<void> may)
      : content_(std::move(content)), may_(std::move(may)), reader_(std::this_thread::get_id()) {}
  std::span<std::byte> bytes() override {
    if (std::this_thread::get_id() != reader_) may_.wait();
    return content_->bytes();
  }
  uint64_t length() override { return content_->bytes().size(); }

 private:
  std::shared_ptr<Buffer> content_;
  std::shared_future<void> may_;
  std::thread::id reader_;  // The test, which may.
};

TEST_F(Artifacts, WhoAsksForWhatIsBeingVerifiedIsAnsweredThen) {
  ArtifactStore store(key, 1 << 20);
  std::promise<void> may;
  const std::shared_future<void> may_read = may.get_future().share();
  const auto good = store.add(name(1), std::make_shared<ShyBuffer>(content(1), may_read), ignore);
  const auto bad = store.add(name(2), std::make_shared<ShyBuffer>(content(3), may_read), ignore);
  EXPECT_EQ(store.offer(name(1), kSize), nullptr);
  EXPECT_TRUE(store.is_coming({.name = name(1), .bytes = kSize}));
  EXPECT_TRUE(store.is_coming({.name = name(2), .bytes = kSize}));
  EXPECT_FALSE(store.is_coming({.name = name(4), .bytes = kSize}));
  std::atomic<bool> answered = false;
  std::vector<std::shared_ptr<Buffer>> loaded;
  const auto asker = std::make_shared<int>();
  store.load({.wanted = {{.name = name(1), .bytes = kSize}, {.name = name(2), .bytes = kSize}},
              .tenant = "alice",
              .asker = asker,
              .done = [&](auto buffers) {
                loaded = std::move(buffers);
                answered = true;
              }});
  EXPECT_FALSE(answered) << "nobody knows yet whether the bytes are right";
  may.set_value();
  store.settle();
  ASSERT_TRUE(answered);
  EXPECT_EQ(loaded.at(0).get(), good.get());
  EXPECT_EQ(loaded.at(1), nullptr) << "they were not what their name said";
  EXPECT_FALSE(store.is_coming({.name = name(1), .bytes = kSize})) << "it is there";
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
  threads.reserve(4);
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

// -- with a disk below

struct ArtifactsOnDisk : Artifacts {
  ArtifactsOnDisk() {
    std::string name = ::testing::TempDir() + "/djinn-store-XXXXXX";
    folder = mkdtemp(name.data());
    start();
  }
  ~ArtifactsOnDisk() override {
    store.reset();
    std::filesystem::remove_all(folder);
  }
  // As a server that ends, and another one.
  void start(uint64_t unused_bytes_max = 1 << 20, uint64_t memory_bytes = 1 << 20) {
    store.reset();
    auto cache = DiskCache::open(folder, 1 << 20);
    ASSERT_TRUE(cache) << cache.error().message;
    const auto stage = [this, memory_bytes](
                           uint64_t bytes,
                           std::string_view tenant) -> Result<std::shared_ptr<Buffer>> {
      if (tenant != "alice") ++strangers;
      if (bytes > memory_bytes) return Error{ErrorCode::kOutOfMemory, "full"};
      return std::make_shared<HeapBuffer>(bytes, 0);
    };
    store = std::make_unique<ArtifactStore>(
        ArtifactDisk{.cache = std::move(*cache), .stage = stage}, unused_bytes_max);
  }
  [[nodiscard]] ArtifactName named(uint8_t fill) const {
    return artifact_name(store->key(), std::vector<std::byte>(kSize, std::byte(fill)));
  }
  void add(uint8_t fill) const { (void)store->add(named(fill), content(fill), ignore); }
  [[nodiscard]] bool is_on_disk(uint8_t fill) const {
    return store->is_coming({.name = named(fill), .bytes = kSize});
  }
  [[nodiscard]] std::vector<std::shared_ptr<Buffer>> load(const std::vector<uint8_t>& fills) const {
    std::vector<ArtifactStore::Wanted> wanted;
    wanted.reserve(fills.size());
    for (const uint8_t fill : fills) wanted.push_back({.name = named(fill), .bytes = kSize});
    std::vector<std::shared_ptr<Buffer>> out;
    const auto asker = std::make_shared<int>();
    store->load({.wanted = wanted, .tenant = "alice", .asker = asker, .done = [&out](auto loaded) {
                   out = std::move(loaded);
                 }});
    store->settle();
    EXPECT_EQ(strangers, 0) << "who asks pays for the memory";
    return out;
  }
  void damage_all() const {
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
      if (file.path().extension() != ".artifact") continue;
      std::fstream out(file.path(), std::ios::in | std::ios::out | std::ios::binary);
      out.seekp(500).put(99);
    }
  }

  std::string folder;
  std::atomic<int> strangers = 0;
  std::unique_ptr<ArtifactStore> store;
};

TEST_F(ArtifactsOnDisk, AreThereWhenTheStoreStartsAgain) {
  add(1);
  store->settle();
  EXPECT_EQ(store->stats().disk.bytes_written, kSize);
  start();
  EXPECT_EQ(store->offer(named(1), kSize), nullptr) << "it is not in memory";
  ASSERT_TRUE(is_on_disk(1));
  const auto loaded = load({1});
  ASSERT_EQ(loaded.size(), 1U);
  ASSERT_NE(loaded[0], nullptr);
  EXPECT_EQ(loaded[0]->bytes()[kSize - 1], std::byte{1});
  EXPECT_EQ(store->offer(named(1), kSize).get(), loaded[0].get()) << "now it is in memory too";
  const auto stats = store->stats();
  EXPECT_EQ(stats.disk.hits, 1U);
  EXPECT_EQ(stats.disk.bytes_read, kSize);
  EXPECT_EQ(stats.offers, 2U);
  EXPECT_EQ(stats.hits, 2U);
}

TEST_F(ArtifactsOnDisk, OutliveTheirEvictionFromMemory) {
  start(/*unused_bytes_max=*/0);
  for (uint8_t i = 1; i <= 3; ++i) add(i);
  store->settle();
  EXPECT_EQ(store->stats().artifacts, 0U);
  for (uint8_t i = 1; i <= 3; ++i) EXPECT_TRUE(is_on_disk(i));
  EXPECT_NE(load({2}).at(0), nullptr);
  EXPECT_EQ(buffers_alive, 0);
}

TEST_F(ArtifactsOnDisk, AreLoadedOnceForAll) {
  add(1);
  store->settle();
  start();
  const auto loaded = load({1, 1});
  EXPECT_EQ(loaded.at(0).get(), loaded.at(1).get());
  EXPECT_EQ(store->stats().disk.hits, 1U);
  EXPECT_EQ(buffers_alive, 1);
}

TEST_F(ArtifactsOnDisk, AreNotThereIfTheirFileIsDamaged) {
  add(1);
  store->settle();
  start();
  damage_all();
  EXPECT_EQ(load({1}).at(0), nullptr);
  EXPECT_FALSE(is_on_disk(1));
  EXPECT_EQ(store->find(named(1), kSize), nullptr);
  EXPECT_EQ(store->stats().disk.corrupt_files, 1U);
  EXPECT_EQ(store->stats().hits, 0U);
  EXPECT_EQ(buffers_alive, 0);
  add(1);
  store->settle();
  start();
  EXPECT_NE(load({1}).at(0), nullptr) << "who uploads it again heals it";
}

TEST_F(ArtifactsOnDisk, AreNotWrittenUnderAWrongName) {
  (void)store->add(named(1), content(2), ignore);
  store->settle();
  EXPECT_FALSE(is_on_disk(1));
  EXPECT_FALSE(is_on_disk(2));
  EXPECT_EQ(store->stats().disk.bytes_written, 0U);
}

TEST_F(ArtifactsOnDisk, AreNotThereIfThereIsNoMemoryForThem) {
  add(1);
  store->settle();
  start(1 << 20, kSize - 1);
  EXPECT_EQ(load({1}).at(0), nullptr);
  EXPECT_TRUE(is_on_disk(1)) << "it is still good";
}

TEST_F(ArtifactsOnDisk, AreNotLoadedForWhoIsGone) {
  add(1);
  store->settle();
  start();
  bool answered = false;
  const std::weak_ptr<int> gone = std::make_shared<int>();
  store->load({.wanted = {{.name = named(1), .bytes = kSize}},
               .tenant = "alice",
               .asker = gone,
               .done = [&](const auto& /*loaded*/) { answered = true; }});
  store->settle();
  EXPECT_FALSE(answered);
  EXPECT_EQ(store->stats().disk.bytes_read, 0U);
}

TEST_F(ArtifactsOnDisk, GiveWayWhileTheyWaitToBeWritten) {
  // The store's thread is held at the first until all are there, and at the third.
  std::promise<void> all_there;
  std::promise<void> evicted;
  (void)store->add(named(1), content(1), [&](bool /*good*/) { all_there.get_future().wait(); });
  add(2);
  (void)store->add(named(3), content(3), [&](bool /*good*/) { evicted.get_future().wait(); });
  all_there.set_value();
  while (store->stats().verified < 3) std::this_thread::yield();
  EXPECT_EQ(store->evict(1), kSize) << "no more than is wanted";
  EXPECT_EQ(store->evict(1 << 30), kSize) << "two waited to be written";
  EXPECT_EQ(store->stats().unwritten_bytes, 2 * kSize);
  evicted.set_value();
  store->settle();
  EXPECT_FALSE(is_on_disk(1));
  EXPECT_FALSE(is_on_disk(2));
  EXPECT_TRUE(is_on_disk(3));
}

TEST_F(ArtifactsOnDisk, AreUsedFromManyThreads) {
  start(2 * kSize);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        const auto fill = static_cast<uint8_t>((i + t) % 5);
        auto buffer = store->offer(named(fill), kSize);
        if (buffer == nullptr && is_on_disk(fill)) {
          const auto asker = std::make_shared<int>();
          std::promise<std::shared_ptr<Buffer>> loaded;
          store->load({.wanted = {{.name = named(fill), .bytes = kSize}},
                       .tenant = "alice",
                       .asker = asker,
                       .done = [&](auto buffers) { loaded.set_value(std::move(buffers.at(0))); }});
          buffer = loaded.get_future().get();
        }
        if (buffer == nullptr) buffer = store->add(named(fill), content(fill), ignore);
        if (buffer->bytes()[kSize - 1] != std::byte(fill)) std::abort();
        if (i % 50 == 0) store->evict(kSize);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  store->settle();
  EXPECT_EQ(store->stats().refused, 0U);
  EXPECT_EQ(store->stats().disk.corrupt_files, 0U);
}

// A folder with a model of two tensors, 1 and 2.
struct ArtifactsOfAModel : Artifacts {
  ArtifactsOfAModel() {
    std::string name = ::testing::TempDir() + "/djinn-model-XXXXXX";
    folder = mkdtemp(name.data());
    djinn::testing::write_model(path(), std::vector<djinn::testing::ModelTensor>{
                                            {.name = "a", .shape = {512}, .bytes = one},
                                            {.name = "b", .shape = {512}, .bytes = two}});
  }
  ~ArtifactsOfAModel() override {
    store.reset();
    std::filesystem::remove_all(folder);
  }
  void start(bool pin, uint64_t memory_bytes = 1 << 20) {
    store = std::make_unique<ArtifactStore>(
        ArtifactDisk{.cache = nullptr,
                     .model_folders = {folder},
                     .pins = [pin](const std::string& /*path*/) { return pin; },
                     .on_pinned = [this](const std::string& /*path*/,
                                         size_t count) { missing = static_cast<int>(count); },
                     .stage = [this, memory_bytes](uint64_t bytes, std::string_view tenant)
                         -> Result<std::shared_ptr<Buffer>> {
                       if (tenant == kOperator) ++staged_for_the_operator;
                       if (staged += bytes; staged > memory_bytes) {
                         return Error{ErrorCode::kOutOfMemory, "full"};
                       }
                       return std::make_shared<HeapBuffer>(bytes, 0);
                     }},
        0);
    store->settle();
  }
  [[nodiscard]] ArtifactStore::Wanted wanted(const std::vector<std::byte>& content) const {
    return {.name = artifact_name(store->key(), content), .bytes = content.size()};
  }
  [[nodiscard]] std::string path() const { return folder + "/model.safetensors"; }

  const std::vector<std::byte> one{2048, std::byte{1}};
  const std::vector<std::byte> two{2048, std::byte{2}};
  std::string folder;
  std::atomic<int> missing = -1;
  std::atomic<uint64_t> staged = 0;
  std::atomic<int> staged_for_the_operator = 0;
  std::unique_ptr<ArtifactStore> store;
};

TEST_F(ArtifactsOfAModel, AreLoadedWhenSomebodyWantsThem) {
  start(false);
  EXPECT_EQ(store->offer(wanted(one).name, one.size()), nullptr) << "not in memory yet";
  EXPECT_TRUE(store->is_coming(wanted(one)));
  EXPECT_FALSE(store->is_coming(wanted(std::vector<std::byte>(2048))));
  std::vector<std::shared_ptr<Buffer>> got;
  const auto asker = std::make_shared<int>();
  store->load({.wanted = {wanted(one), wanted(std::vector<std::byte>(2048)), wanted(two)},
               .tenant = "alice",
               .asker = asker,
               .done = [&](auto loaded) { got = std::move(loaded); }});
  store->settle();
  ASSERT_EQ(got.size(), 3U);
  ASSERT_TRUE(got[0] != nullptr && got[1] == nullptr && got[2] != nullptr);
  EXPECT_TRUE(std::ranges::equal(got[0]->bytes(), one));
  EXPECT_TRUE(std::ranges::equal(got[2]->bytes(), two));
  EXPECT_EQ(store->offer(wanted(one).name, one.size()), got[0]) << "in memory by now";
  EXPECT_EQ(store->stats().models.hits, 2U);
  EXPECT_EQ(staged_for_the_operator, 0);
}

TEST_F(ArtifactsOfAModel, StayInMemoryIfTheyArePinned) {
  start(true);
  EXPECT_EQ(missing, 0);
  EXPECT_EQ(staged_for_the_operator, 2);
  EXPECT_EQ(store->stats().pinned_bytes, 4096U);
  EXPECT_EQ(store->evict(1 << 20), 0U) << "nothing is unused";
  EXPECT_NE(store->offer(wanted(two).name, two.size()), nullptr);
  EXPECT_EQ(store->stats().unused_bytes, 0U);
}

TEST_F(ArtifactsOfAModel, SayHowManyFoundNoRoom) {
  start(true, 3000);
  EXPECT_EQ(missing, 1);
  EXPECT_EQ(store->stats().pinned_bytes, 2048U);
}

}  // namespace
}  // namespace djinn::server
