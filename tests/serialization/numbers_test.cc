// SPDX-License-Identifier: Apache-2.0
// What one end encodes, the other decodes: for any numbers, in any order of plans.
#include "serialization/graph/numbers.h"

#include <cstdlib>
#include <optional>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/seed.h"

namespace djinn::graph {
namespace {

std::shared_ptr<const Plan> plan_of(std::vector<NumberKind> kinds) {
  auto plan = std::make_shared<Plan>();
  plan->kinds = std::move(kinds);
  return plan;
}

// The patch that was sent, or nothing if the other end did not get the same numbers.
std::optional<ByteString> travel(NumbersCoder& from, NumbersCoder& to, const Numbers& numbers) {
  ByteString patch;
  from.encode(std::make_shared<const Numbers>(numbers), patch);
  auto got = to.decode(patch);
  if (!got || **got != numbers || checksum(**got) != checksum(numbers)) return std::nullopt;
  to.keep(*got);
  return patch;
}

TEST(Numbers, AGrowingLoopCostsNothingFromItsThirdStepOn) {
  // base, upload, a length, a constant, an old storage, the storage that the last step made
  const auto plan = plan_of({NumberKind::kInt, NumberKind::kInt, NumberKind::kInt, NumberKind::kInt,
                             NumberKind::kId, NumberKind::kId});
  NumbersCoder client(plan);
  NumbersCoder server(plan);
  for (int64_t step = 0; step < 10; ++step) {
    const int64_t base = 1000 + 37 * step;
    const auto patch = travel(client, server, {base, 1, 50 + step, 7, 3, base - 5});
    ASSERT_TRUE(patch);
    EXPECT_EQ(patch->empty(), step >= 2) << "step " << step;
  }
}

TEST(Numbers, AnIrregularBaseDoesNotDisturbTheIds) {
  const auto plan = plan_of({NumberKind::kInt, NumberKind::kInt, NumberKind::kId, NumberKind::kId});
  NumbersCoder client(plan);
  NumbersCoder server(plan);
  int64_t base = 100;
  for (const int64_t moved : {10, 10, 17, 10, 3}) {
    base += moved;
    const auto patch = travel(client, server, {base, 1, base + 1, 5});
    ASSERT_TRUE(patch);
    if (base > 130) {
      EXPECT_LE(patch->size(), 3U);  // The base alone.
    }
  }
}

TEST(Numbers, AnyHundredThousandVectorsArriveAsTheyWere) {
  const uint64_t seed = test_seed();
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  int vectors = 0;
  while (vectors < 100'000) {
    std::vector<NumberKind> kinds(2 + random() % 20, NumberKind::kInt);
    for (size_t i = 2; i < kinds.size(); ++i) kinds[i] = static_cast<NumberKind>(random() % 3);
    const auto plan = plan_of(kinds);
    NumbersCoder client(plan);
    NumbersCoder server(plan);
    Numbers numbers(kinds.size());
    for (int step = 0; step < 50; ++step, ++vectors) {
      for (int64_t& number : numbers) {
        switch (random() % 8) {
          case 0:
            number = static_cast<int64_t>(random());
            break;
          case 1:
            number = static_cast<int64_t>(static_cast<uint64_t>(number) + random() % 100);
            break;
          case 2:
            number = 0;
            break;
          case 3:
            number = random() % 2 == 0 ? INT64_MAX : INT64_MIN;
            break;
          default:
            break;
        }
      }
      if (random() % 10 == 0) client.compact();
      if (random() % 10 == 0) server.compact();
      ASSERT_TRUE(travel(client, server, numbers));
      if (random() % 40 == 0) {  // Evicted, or a new epoch: both ends begin again.
        client = NumbersCoder(plan);
        server = NumbersCoder(plan);
      }
    }
  }
}

TEST(Numbers, AMalformedPatchIsRefusedAndChangesNothing) {
  const auto plan = plan_of({NumberKind::kInt, NumberKind::kInt, NumberKind::kFloat});
  NumbersCoder client(plan);
  NumbersCoder server(plan);
  ASSERT_TRUE(travel(client, server, {1, 2, 3}));
  EXPECT_FALSE(server.decode(ByteString{9, 2}));      // behind the end
  EXPECT_FALSE(server.decode(ByteString{1}));         // cut short
  EXPECT_FALSE(server.decode(ByteString{2, 1, 2}));   // a float needs eight bytes
  EXPECT_FALSE(server.decode(ByteString(11, 0xff)));  // an integer without end
  ASSERT_TRUE(travel(client, server, {1, 2, 3}));
}

TEST(Numbers, APatchOfRandomBytesNeverLeavesThePlan) {
  const uint64_t seed = test_seed();
  SCOPED_TRACE("DJINN_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto plan =
      plan_of({NumberKind::kInt, NumberKind::kInt, NumberKind::kFloat, NumberKind::kId});
  NumbersCoder server(plan);
  for (int i = 0; i < 100'000; ++i) {
    ByteString patch(random() % 24);
    for (uint8_t& byte : patch) byte = static_cast<uint8_t>(random());
    if (auto got = server.decode(patch)) {
      ASSERT_EQ((*got)->size(), plan->kinds.size());
      server.keep(*got);
    }
  }
}

}  // namespace
}  // namespace djinn::graph
