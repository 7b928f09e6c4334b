// SPDX-License-Identifier: Apache-2.0
// The client decides alone which plan lies in which slot, and the server always agrees: whatever is
// evicted, whoever was idle, and after a resync.
#include "client/session/plan_cache.h"

#include <array>
#include <cstdlib>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "serialization/codec/messages.h"
#include "serialization/graph/plan_writer.h"
#include "server/session/plan_slots.h"
#include "tests/support/fake_device.h"
#include "tests/support/seed.h"

namespace djinn::client {
namespace {

struct Flush {
  std::shared_ptr<const graph::ByteString> structure;
  graph::PlanHash hash;
  graph::Numbers numbers;
};

// Flushes of many structures (one has `integers` integers) with any numbers.
class Recorder {
 public:
  Flush flush(size_t integers, int64_t first) {
    writer_.begin(1, 1);
    writer_.op(sleep_, integers);
    for (size_t i = 0; i < integers; ++i) writer_.integer(first + static_cast<int64_t>(i));
    writer_.results(0);
    const graph::Flush done = writer_.finish();
    return {.structure = std::make_shared<const graph::ByteString>(done.structure.begin(),
                                                                   done.structure.end()),
            .hash = done.hash,
            .numbers = {done.numbers.begin(), done.numbers.end()}};
  }

 private:
  graph::PlanWriter writer_;
  graph::OpName sleep_{"test::sleep"};
};

struct Ends {
  PlanCache client;
  testing::FakeDevice device;
  server::PlanCache shared{device};
  server::PlanSlots server{shared};
  size_t structures_sent = 0;

  // Whether the server got the same numbers of the same plan.
  bool travel(const Flush& flush) {
    CachedPlan* plan = client.find(flush.hash, *flush.structure);
    codec::Job job;
    if (plan == nullptr) {
      auto inserted = client.insert(flush.structure);
      if (!inserted) return false;
      plan = *inserted;
      job.plan = *flush.structure;
      ++structures_sent;
    }
    graph::ByteString patch;
    plan->coder.encode(std::make_shared<const graph::Numbers>(flush.numbers), patch);
    job.plan_slot = plan->slot;
    job.checksum = graph::checksum(flush.numbers);
    job.patch = patch;
    const auto got = server.decode(job);
    return got && *got && (*got)->plan->hash == flush.hash && *(*got)->numbers == flush.numbers;
  }
};

TEST(PlanCache, SendsAStructureOnce) {
  Ends ends;
  Recorder recorder;
  ends.client.set_capacity(4, 1 << 20);
  for (int64_t step = 0; step < 10; ++step) ASSERT_TRUE(ends.travel(recorder.flush(3, step)));
  EXPECT_EQ(ends.structures_sent, 1U);
}

TEST(PlanCache, EvictsThePlanThatWasUsedLongestAgo) {
  Ends ends;
  Recorder recorder;
  ends.client.set_capacity(2, 1 << 20);
  for (const size_t structure : std::array<size_t, 4>{1, 2, 1, 3}) {
    ASSERT_TRUE(ends.travel(recorder.flush(structure, 0)));
  }
  EXPECT_EQ(ends.client.size(), 2U);
  const size_t before = ends.structures_sent;
  ASSERT_TRUE(ends.travel(recorder.flush(1, 5)));
  EXPECT_EQ(ends.structures_sent, before) << "1 was used after 2";
  ASSERT_TRUE(ends.travel(recorder.flush(2, 5)));
  EXPECT_EQ(ends.structures_sent, before + 1);
}

TEST(PlanCache, KeepsToItsBytes) {
  Ends ends;
  Recorder recorder;
  ends.client.set_capacity(kPlanSlotsMax, 4000);
  for (size_t structure = 1; structure < 60; ++structure) {
    ASSERT_TRUE(ends.travel(recorder.flush(structure, 0)));
  }
  EXPECT_LT(ends.client.size(), 5U);
  const auto too_large = ends.client.insert(recorder.flush(300, 0).structure);
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().code, ErrorCode::kInvalid);
}

TEST(PlanCache, AgreesWithTheServerWhateverHappens) {
  const uint64_t seed = test_seed();
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  Ends ends;
  Recorder recorder;
  ends.client.set_capacity(5, 6000);
  for (int i = 0; i < 20'000; ++i) {
    const size_t structure = 1 + std::min(random() % 20, random() % 20);
    ASSERT_TRUE(ends.travel(recorder.flush(structure, static_cast<int64_t>(random() % 1000))));
    if (random() % 50 == 0) ends.server.compact();
    if (random() % 500 == 0) {  // A resync: the server has forgotten everything, the client too.
      ends.server.forget();
      ends.client.clear();
    }
  }
}

}  // namespace
}  // namespace djinn::client
