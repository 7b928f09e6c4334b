// SPDX-License-Identifier: Apache-2.0
#include "serialization/transport/frame.h"

#include <bit>
#include <cstring>
#include <string>

#include "serialization/base/limits.h"

namespace djinn::transport {
namespace {

constexpr uint16_t kMagic = 0x4a44;  // "DJ" when read as bytes.

struct Layout {
  uint16_t magic;
  uint8_t kind;
  uint8_t flags;
  uint32_t words;
  uint64_t payload;
};
static_assert(sizeof(Layout) == kFrameHeaderBytes);
static_assert(std::endian::native == std::endian::little, "the fields are copied as they are");
static_assert(kMessageBytesMax / 8 <= UINT32_MAX);

Error invalid(std::string what) {
  return Error{ErrorCode::kInvalid, "not a djinn frame: " + std::move(what)};
}

}  // namespace

FrameHeaderBytes encode(const FrameHeader& header) {
  const Layout layout{.magic = kMagic,
                      .kind = static_cast<uint8_t>(header.kind),
                      .flags = 0,
                      .words = static_cast<uint32_t>(header.message_bytes / 8),
                      .payload = header.payload_bytes};
  return std::bit_cast<FrameHeaderBytes>(layout);
}

Result<FrameHeader> decode(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  Layout layout;
  std::memcpy(&layout, bytes.data(), sizeof layout);
  if (layout.magic != kMagic) return invalid("the magic is " + std::to_string(layout.magic));
  if (layout.kind == 0 || layout.kind > kFrameKindMax) {
    return invalid("the kind is " + std::to_string(layout.kind));
  }
  if (layout.flags != 0) return invalid("the flags are " + std::to_string(layout.flags));
  const uint64_t message_bytes = uint64_t{layout.words} * 8;
  if (message_bytes > kMessageBytesMax) {
    return invalid("the message would have " + std::to_string(message_bytes) + " bytes");
  }
  if (layout.payload > kPayloadBytesMax) {
    return invalid("the payload would have " + std::to_string(layout.payload) + " bytes");
  }
  return FrameHeader{.kind = static_cast<FrameKind>(layout.kind),
                     .message_bytes = message_bytes,
                     .payload_bytes = layout.payload};
}

}  // namespace djinn::transport
