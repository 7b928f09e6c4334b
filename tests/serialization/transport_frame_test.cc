// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "serialization/transport/frame.h"

namespace djinn::transport {
namespace {

FrameHeaderBytes valid() {
  return encode({.kind = FrameKind::kUpload, .message_bytes = 4096, .payload_bytes = 12345});
}

FrameHeaderBytes changed(size_t at, uint8_t value) {
  FrameHeaderBytes bytes = valid();
  bytes[at] = std::byte{value};
  return bytes;
}

void expect_invalid(const FrameHeaderBytes& bytes) {
  const auto header = decode(bytes);
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().code, ErrorCode::kInvalid);
}

TEST(Frame, DecodesWhatItEncoded) {
  for (const uint64_t message : {uint64_t{0}, uint64_t{8}, kMessageBytesMax}) {
    for (const uint64_t payload : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 33, kPayloadBytesMax}) {
      for (uint8_t kind = 1; kind <= kFrameKindMax; ++kind) {
        const auto header = decode(encode({static_cast<FrameKind>(kind), message, payload}));
        ASSERT_TRUE(header);
        EXPECT_EQ(static_cast<uint8_t>(header->kind), kind);
        EXPECT_EQ(header->message_bytes, message);
        EXPECT_EQ(header->payload_bytes, payload);
      }
    }
  }
}

TEST(Frame, HasTheBytesOfTheSpecification) {
  const FrameHeaderBytes bytes = encode({FrameKind::kStep, 16, 0x0102030405});
  const std::array<uint8_t, kFrameHeaderBytes> expected = {'D', 'J', 3, 0, 2, 0, 0, 0,
                                                           5,   4,   3, 2, 1, 0, 0, 0};
  EXPECT_EQ(std::memcmp(bytes.data(), expected.data(), bytes.size()), 0);
}

TEST(Frame, RejectsAnotherMagic) {
  expect_invalid(changed(0, 'G'));
  expect_invalid(changed(1, 'E'));
}

TEST(Frame, RejectsAnUnknownKind) {
  expect_invalid(changed(2, 0));
  expect_invalid(changed(2, kFrameKindMax + 1));
  expect_invalid(changed(2, 255));
}

TEST(Frame, RejectsFlags) { expect_invalid(changed(3, 1)); }

TEST(Frame, RejectsALengthAboveTheLimit) {
  expect_invalid(changed(7, 1));   // words >= 2^24
  expect_invalid(changed(15, 1));  // payload >= 2^56
  expect_invalid(encode({FrameKind::kJob, kMessageBytesMax + 8, 0}));
  expect_invalid(encode({FrameKind::kJob, 0, kPayloadBytesMax + 1}));
}

TEST(Frame, PadsToAMultipleOfEight) {
  for (uint64_t length = 0; length < 100; ++length) {
    EXPECT_LT(padding(length), 8U);
    EXPECT_EQ((length + padding(length)) % 8, 0U);
  }
}

}  // namespace
}  // namespace djinn::transport
