// SPDX-License-Identifier: Apache-2.0
// What is packed comes back, and no more than the bound allows.
#include "serialization/graph/packing.h"

#include <random>

#include <gtest/gtest.h>

namespace djinn::graph {
namespace {

ByteString noise(size_t length) {
  std::mt19937_64 random(length);
  ByteString bytes(length);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

TEST(Packing, GivesBackWhatWasPacked) {
  for (const size_t length : {size_t{0}, size_t{1}, size_t{100}, size_t{100'000}}) {
    for (const ByteString& bytes : {noise(length), ByteString(length, 7)}) {
      const auto back = unpack(pack(bytes), length);
      ASSERT_TRUE(back) << back.error().message;
      EXPECT_EQ(*back, bytes);
    }
  }
}

TEST(Packing, RefusesWhatWouldBecomeLongerThanTheBound) {
  const ByteString bomb = pack(ByteString(1 << 20, 0));
  EXPECT_LT(bomb.size(), 1000U);
  EXPECT_TRUE(unpack(bomb, 1 << 20));
  const auto refused = unpack(bomb, (1 << 20) - 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalid);
}

TEST(Packing, RefusesWhatIsCutShortOrDamaged) {
  const ByteString packed = pack(noise(1000));
  for (size_t length = 0; length < packed.size(); ++length) {
    EXPECT_FALSE(unpack(ByteSpan(packed).first(length), 1000)) << length;
  }
  ByteString longer = packed;
  longer.push_back(0);
  EXPECT_FALSE(unpack(longer, 1000));
  EXPECT_FALSE(unpack(ByteString(100, 0), 1000));
}

}  // namespace
}  // namespace djinn::graph
