// SPDX-License-Identifier: Apache-2.0
// Format: how a trace lies in its file. docs/traces.md tells the story around it.
//
//   file     = "djntrace" version:u32 protocol:u32 record* end
//   record   = header, message, zero bytes to a multiple of 8, payload, zero bytes likewise
//   header   =  0  kind     u8   RecordKind
//               1  frame    u8   transport::FrameKind of a kFrame, else 0
//               2  zero     u16
//               4  after    u32  answers that the client had when it said this; 0 in the others
//               8  time     u64  microseconds since the hello; never less than before
//              16  message  u64  bytes, at most kMessageBytesMax
//              24  payload  u64  bytes
//   end      = a record whose message is records:u64 (those before it) checksum:u64
//
// The checksum is XXH3-64 of all bytes before it, so it is the last word of the file. All fields
// are little-endian, and everything lies at a multiple of 8: a file is used where it is mapped.
// Threading: constants.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace djinn::trace {

inline constexpr std::array<char, 8> kMagic{'d', 'j', 'n', 't', 'r', 'a', 'c', 'e'};
inline constexpr uint32_t kVersion = 1;
inline constexpr size_t kFileHeaderBytes = 16;

enum class RecordKind : uint8_t {
  kHello = 1,     // message: Hello without its token; first and once
  kFrame = 2,     // message, payload: of a Step, Job, Hint, or an Upload that is no artifact
  kArtifact = 3,  // message: upload:u64 sha256[32]; payload: the bytes
  kAnswer = 4,    // message: job:u32 answer:u16 code:u16; payload: bytes, or text if code is not 0
  kEnd = 5,
};

struct RecordHeader {
  uint8_t kind = 0;
  uint8_t frame = 0;
  uint16_t zero = 0;
  uint32_t after = 0;
  uint64_t time_us = 0;
  uint64_t message_bytes = 0;
  uint64_t payload_bytes = 0;
};
static_assert(sizeof(RecordHeader) == 32);

inline constexpr size_t kContentBytes = 32;  // A SHA-256.
struct ArtifactMessage {
  uint64_t upload = 0;
  std::array<uint8_t, kContentBytes> content{};
};
static_assert(sizeof(ArtifactMessage) == 40);

struct AnswerMessage {
  uint32_t job = 0;
  uint16_t answer = 0;
  uint16_t code = 0;  // ErrorCode; 0: it was fetched.
};
static_assert(sizeof(AnswerMessage) == 8);

struct EndMessage {
  uint64_t records = 0;
  uint64_t checksum = 0;
};
static_assert(sizeof(EndMessage) == 16);

}  // namespace djinn::trace
