// SPDX-License-Identifier: Apache-2.0
// Load queue: several are fetched at a time, and who waits is answered in turn.
#include "server/memory/load_queue.h"

#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/seed.h"

namespace djinn::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Length final : public Buffer {
 public:
  explicit Length(uint64_t bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes() override { return {}; }
  uint64_t length() override { return bytes_; }

 private:
  uint64_t bytes_;
};

WantedArtifact wanted(uint8_t name) { return {.name = {name}, .bytes = name}; }
std::shared_ptr<Buffer> found(const WantedArtifact& of) {
  return std::make_shared<Length>(of.bytes);
}

struct LoadQueueTest : ::testing::Test {
  // What comes back is the lengths of what was loaded; -1: null.
  std::future<std::vector<int>> load(LoadQueue& queue, const std::vector<uint8_t>& names) {
    ArtifactLoad out{.wanted = {}, .tenant = "alice", .asker = asker, .done = {}};
    for (const uint8_t name : names) out.wanted.push_back(wanted(name));
    auto promise = std::make_shared<std::promise<std::vector<int>>>();
    out.done = [promise](const std::vector<std::shared_ptr<Buffer>>& loaded) {
      std::vector<int> lengths;
      lengths.reserve(loaded.size());
      for (const auto& each : loaded) {
        lengths.push_back(each == nullptr ? -1 : static_cast<int>(each->length()));
      }
      promise->set_value(std::move(lengths));
    };
    queue.push(std::move(out));
    return promise->get_future();
  }
  std::shared_ptr<int> asker = std::make_shared<int>();
};

TEST_F(LoadQueueTest, FetchesSeveralOfALoadAtATime) {
  std::atomic<int> inside = 0;
  std::promise<void> both;
  const std::shared_future<void> both_inside = both.get_future().share();
  LoadQueue queue(2, [&](const WantedArtifact& of, const std::string& /*tenant*/) {
    if (++inside == 2) both.set_value();
    EXPECT_EQ(both_inside.wait_for(seconds(10)), std::future_status::ready);
    return found(of);
  });
  EXPECT_EQ(load(queue, {1, 2}).get(), (std::vector<int>{1, 2}));
}

TEST_F(LoadQueueTest, SaysWhatIsNotThere) {
  LoadQueue queue(3, [](const WantedArtifact& of, const std::string& tenant) {
    EXPECT_EQ(tenant, "alice");
    return of.bytes == 2 ? nullptr : found(of);
  });
  EXPECT_EQ(load(queue, {1, 2, 3}).get(), (std::vector<int>{1, -1, 3}));
  EXPECT_EQ(load(queue, {}).get(), std::vector<int>{});
}

TEST_F(LoadQueueTest, AnswersInTheOrderOfTheLoads) {
  std::promise<void> go;
  const std::shared_future<void> may_go = go.get_future().share();
  std::atomic<int> fetched = 0;
  LoadQueue queue(2, [&](const WantedArtifact& of, const std::string& /*tenant*/) {
    if (of.bytes == 1) may_go.wait();
    ++fetched;
    return found(of);
  });
  auto first = load(queue, {1});
  auto second = load(queue, {2, 3});
  while (fetched < 2) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(second.wait_for(milliseconds(50)), std::future_status::timeout);
  go.set_value();
  EXPECT_EQ(second.get(), (std::vector<int>{2, 3}));
  EXPECT_EQ(first.wait_for(seconds(0)), std::future_status::ready);
}

TEST_F(LoadQueueTest, FetchesNothingMoreForWhoHasGone) {
  std::promise<void> go;
  const std::shared_future<void> may_go = go.get_future().share();
  std::atomic<int> fetched = 0;
  LoadQueue queue(1, [&](const WantedArtifact& of, const std::string& /*tenant*/) {
    may_go.wait();
    ++fetched;
    return found(of);
  });
  auto gone = load(queue, {1, 2, 3, 4});
  asker = std::make_shared<int>();  // The one who asked has died.
  auto other = load(queue, {5});
  go.set_value();
  EXPECT_EQ(other.get(), std::vector<int>{5});
  EXPECT_LE(fetched, 2) << "the one that was being fetched, and the other's";
  EXPECT_THROW(gone.get(), std::future_error) << "nobody was answered";
}

TEST_F(LoadQueueTest, EndsWithoutAnsweringWhoWaits) {
  std::promise<void> begun;
  auto queue = std::make_unique<LoadQueue>(
      1, [&, first = true](const WantedArtifact& of, const std::string& /*tenant*/) mutable {
        if (std::exchange(first, false)) begun.set_value();
        std::this_thread::sleep_for(milliseconds(20));
        return found(of);
      });
  auto never = load(*queue, {1, 2, 3});
  begun.get_future().wait();
  queue.reset();
  EXPECT_THROW(never.get(), std::future_error);
}

TEST_F(LoadQueueTest, NeverFetchesTheSameTwiceAtATime) {
  std::mt19937_64 random(test_seed());
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(test_seed()));
  std::array<std::atomic<int>, 4> inside{};
  LoadQueue queue(4, [&](const WantedArtifact& of, const std::string& /*tenant*/) {
    EXPECT_EQ(inside.at(of.bytes)++, 0);
    std::this_thread::yield();
    --inside.at(of.bytes);
    return found(of);
  });
  std::vector<std::pair<std::vector<uint8_t>, std::future<std::vector<int>>>> loads;
  for (int i = 0; i < 200; ++i) {
    std::vector<uint8_t> names(random() % 6);
    for (uint8_t& name : names) name = static_cast<uint8_t>(random() % inside.size());
    auto answer = load(queue, names);
    loads.emplace_back(std::move(names), std::move(answer));
  }
  queue.settle();
  for (auto& [names, answer] : loads) {
    EXPECT_EQ(answer.get(), std::vector<int>(names.begin(), names.end()));
  }
}

}  // namespace
}  // namespace djinn::server
