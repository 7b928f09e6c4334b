// SPDX-License-Identifier: Apache-2.0
#include "trace/writer.h"

#include <xxhash.h>

#include <array>
#include <span>

#include "serialization/codec/messages.h"

namespace djinn::trace {
namespace {

template <typename T>
Bytes bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace

Writer::Writer(std::ostream& out)
    : out_(out), checksum_(XXH3_createState(), [](XXH3_state_s* state) { XXH3_freeState(state); }) {
  XXH3_64bits_reset(checksum_.get());
  bytes(bytes_of(kMagic));
  bytes(bytes_of(kVersion));
  bytes(bytes_of(uint32_t{codec::kProtocolVersion}));
}

Writer::~Writer() = default;

void Writer::hello(Bytes message) {
  record({.kind = static_cast<uint8_t>(RecordKind::kHello)}, message, {});
}

void Writer::frame(transport::FrameKind kind, Bytes message, Bytes payload, uint64_t time_us) {
  record({.kind = static_cast<uint8_t>(RecordKind::kFrame),
          .frame = static_cast<uint8_t>(kind),
          .after = answers_,
          .time_us = time_us},
         message, payload);
}

void Writer::artifact(const ArtifactMessage& artifact, Bytes payload, uint64_t time_us) {
  record(
      {.kind = static_cast<uint8_t>(RecordKind::kArtifact), .after = answers_, .time_us = time_us},
      bytes_of(artifact), payload);
}

void Writer::answer(const AnswerMessage& answer, Bytes payload, uint64_t time_us) {
  record({.kind = static_cast<uint8_t>(RecordKind::kAnswer), .time_us = time_us}, bytes_of(answer),
         payload);
  ++answers_;
}

Result<> Writer::finish() {
  bytes(bytes_of(RecordHeader{.kind = static_cast<uint8_t>(RecordKind::kEnd),
                              .message_bytes = sizeof(EndMessage)}));
  bytes(bytes_of(records_));
  bytes(bytes_of(uint64_t{XXH3_64bits_digest(checksum_.get())}));
  out_.flush();
  if (out_.good()) return Unit{};
  return Error{ErrorCode::kFailed, "the trace could not be written"};
}

void Writer::record(RecordHeader header, Bytes message, Bytes payload) {
  header.message_bytes = message.size();
  header.payload_bytes = payload.size();
  bytes(bytes_of(header));
  padded(message);
  padded(payload);
  ++records_;
}

void Writer::padded(Bytes part) {
  static constexpr std::array<std::byte, 8> kZeros{};
  bytes(part);
  bytes(std::span(kZeros).first(transport::padding(part.size())));
}

void Writer::bytes(Bytes part) {
  out_.write(reinterpret_cast<const char*>(part.data()), static_cast<std::streamsize>(part.size()));
  XXH3_64bits_update(checksum_.get(), part.data(), part.size());
}

}  // namespace djinn::trace
