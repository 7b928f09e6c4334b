// SPDX-License-Identifier: Apache-2.0
// The frame: sixteen bytes in front of every message, so that a reader knows how much to read
// before it parses anything, and where tensor bytes may go without a stop in between.
//
//   0  magic    u16  0x4a44, "DJ"
//   2  kind     u8   FrameKind
//   3  flags    u8   0 in version 1; anything else is refused
//   4  words    u32  length of the message in 8-byte words, at most kMessageBytesMax / 8
//   8  payload  u64  length of the tensor bytes behind the message, at most kPayloadBytesMax
//
// On the wire: header, message (one Cap'n Proto segment without a segment table), payload, zero
// bytes up to the next multiple of 8. So every message starts at a multiple of 8 and is read where
// it was received. All fields are little-endian. Threading: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "serialization/base/result.h"

namespace djinn::transport {

inline constexpr size_t kFrameHeaderBytes = 16;

// What a frame carries. The messages are specified in schema/protocol.capnp.
enum class FrameKind : uint8_t {
  kHello = 1,       // client: Hello             server: HelloReply
  kOperators = 2,   // client: Operators         server: OperatorsReply
  kStep = 3,        // client: Step, a job whose numbers came out as predicted
  kJob = 4,         // client: Job, with its inline uploads as payload
  kUpload = 5,      // client: Upload, with the bytes as payload
  kOffer = 6,       // client: Offer             server: OfferReply
  kFetched = 7,     // server: Fetched, with the bytes as payload
  kFailed = 8,      // server: Failed
  kAck = 9,         // server: Ack
  kResync = 10,     // server: Resync
  kHeartbeat = 11,  // both: Heartbeat
  kGoodbye = 12,    // both: Goodbye
  kStats = 13,      // client: StatsRequest      server: StatsReply
  kHint = 14,       // client: Hint
  kRefused = 15,    // server: Refused
};
inline constexpr uint8_t kFrameKindMax = 15;

struct FrameHeader {
  FrameKind kind = FrameKind::kHeartbeat;
  uint64_t message_bytes = 0;  // A multiple of 8.
  uint64_t payload_bytes = 0;  // Without padding.
};

using FrameHeaderBytes = std::array<std::byte, kFrameHeaderBytes>;

[[nodiscard]] FrameHeaderBytes encode(const FrameHeader& header);

// kInvalid if the bytes are no frame header, or name a kind or a length that is out of bounds.
Result<FrameHeader> decode(std::span<const std::byte, kFrameHeaderBytes> bytes);

// Bytes of padding behind a payload of this length: 0 to 7.
[[nodiscard]] constexpr size_t padding(uint64_t payload_bytes) {
  return static_cast<size_t>((8 - payload_bytes % 8) % 8);
}

}  // namespace djinn::transport
