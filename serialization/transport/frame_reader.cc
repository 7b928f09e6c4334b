// SPDX-License-Identifier: Apache-2.0
#include "serialization/transport/frame_reader.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string>
#include <utility>

#include "serialization/base/limits.h"

namespace djinn::transport {
namespace {

constexpr size_t kLargeMessageFirstBytes = 64 << 10;

static_assert(kReceiveBufferBytes % 8 == 0);
static_assert(__STDCPP_DEFAULT_NEW_ALIGNMENT__ % 8 == 0, "messages are read in place");

}  // namespace

std::byte* FrameReader::buffer() {
  // Not make_unique, which would touch all of it: an idle connection pays for the pages it used.
  if (!buffer_) buffer_.reset(new std::byte[kReceiveBufferBytes]);
  return buffer_.get();
}

FrameReader::Target FrameReader::target() {
  assert(!stopped_);
  if (stage_ == Stage::kPayload) return {.bytes = payload_, .whole = true, .borrowed = true};
  if (stage_ != Stage::kLargeMessage) return staging_target();
  if (large_bytes_ == large_.size()) {
    const size_t wanted = std::max(kLargeMessageFirstBytes, 2 * large_.size());
    large_.resize(std::min<size_t>(header_.message_bytes, wanted));
  }
  return {.bytes = std::span(large_).subspan(large_bytes_), .whole = true, .borrowed = false};
}

FrameReader::Target FrameReader::staging_target() {
  std::byte* const base = buffer();
  if (begin_ == end_) {
    // The first multiple of 8 in the buffer must be one in the stream: room for the padding first.
    const size_t padding_bytes = stage_ == Stage::kSkip ? static_cast<size_t>(skip_bytes_ % 8) : 0;
    begin_ = end_ = (8 - padding_bytes) % 8;
  } else if (begin_ > 0 && stage_ != Stage::kSkip) {
    std::memmove(base, base + begin_, staged());
    end_ = staged();
    begin_ = 0;
  }
  assert(end_ < kReceiveBufferBytes);
  return {.bytes = {base + end_, kReceiveBufferBytes - end_}, .whole = false, .borrowed = false};
}

void FrameReader::received(size_t bytes) {
  stats_.bytes_received += bytes;
  if (stopped_) return;
  if (stage_ == Stage::kPayload) {
    payload_ = payload_.subspan(bytes);
  } else if (stage_ == Stage::kLargeMessage) {
    large_bytes_ += bytes;
  } else {
    end_ += bytes;
  }
}

Result<size_t> FrameReader::deliver(FrameSink& sink) {
  size_t calls = 0;
  bool more = true;
  while (more && wants_input()) {
    Result<bool> step = true;
    switch (stage_) {
      case Stage::kHeader:
        step = read_header();
        break;
      case Stage::kMessage:
      case Stage::kLargeMessage:
        step = read_message(sink, calls);
        break;
      case Stage::kPayload:
        step = read_payload(sink, calls);
        break;
      case Stage::kSkip:
        step = skip();
        break;
    }
    if (!step) return std::move(step).error();
    more = *step;
  }
  return calls;
}

Result<bool> FrameReader::read_header() {
  if (staged() < kFrameHeaderBytes) return false;
  const std::span<const std::byte, kFrameHeaderBytes> bytes(buffer_.get() + begin_,
                                                            kFrameHeaderBytes);
  DJINN_TRY(header_, decode(bytes));
  begin_ += kFrameHeaderBytes;
  stage_ = Stage::kMessage;
  if (header_.message_bytes > kReceiveBufferBytes) {
    stage_ = Stage::kLargeMessage;
    large_.assign(buffer_.get() + begin_, buffer_.get() + end_);
    large_bytes_ = large_.size();
    begin_ = end_ = 0;
  }
  return true;
}

Result<bool> FrameReader::read_message(FrameSink& sink, size_t& calls) {
  if (stage_ == Stage::kLargeMessage) {
    if (large_bytes_ < header_.message_bytes) return false;
    const std::vector<std::byte> message = std::exchange(large_, {});
    return announce(sink, message, calls);
  }
  const auto bytes = static_cast<size_t>(header_.message_bytes);
  if (staged() < bytes) return false;
  const Bytes message(buffer_.get() + begin_, bytes);
  begin_ += bytes;
  return announce(sink, message, calls);
}

Result<bool> FrameReader::announce(FrameSink& sink, Bytes message, size_t& calls) {
  ++calls;
  ++stats_.frames_received;
  stage_ = Stage::kHeader;
  Result<std::span<std::byte>> wanted = sink.on_message(header_, message);
  if (stopped_) return false;
  if (!wanted) return std::move(wanted).error();
  if (header_.payload_bytes == 0) return true;
  skip_bytes_ = padding(header_.payload_bytes);
  if (wanted->empty()) {
    skip_bytes_ += header_.payload_bytes;
    stage_ = Stage::kSkip;
    return true;
  }
  if (wanted->size() != header_.payload_bytes) {
    return Error{ErrorCode::kInvalid, "the payload of " + std::to_string(header_.payload_bytes) +
                                          " bytes has a place of " +
                                          std::to_string(wanted->size()) + " bytes"};
  }
  payload_ = *wanted;
  stage_ = Stage::kPayload;
  return true;
}

bool FrameReader::read_payload(FrameSink& sink, size_t& calls) {
  const size_t here = std::min(staged(), payload_.size());
  if (here > 0) {
    std::memcpy(payload_.data(), buffer_.get() + begin_, here);
    stats_.payload_bytes_copied += here;
    payload_ = payload_.subspan(here);
    begin_ += here;
  }
  if (!payload_.empty()) return false;
  stage_ = skip_bytes_ > 0 ? Stage::kSkip : Stage::kHeader;
  ++calls;
  sink.on_payload();
  return true;
}

bool FrameReader::skip() {
  const auto here = static_cast<size_t>(std::min<uint64_t>(staged(), skip_bytes_));
  begin_ += here;
  skip_bytes_ -= here;
  if (skip_bytes_ > 0) return false;
  stage_ = Stage::kHeader;
  return true;
}

void FrameReader::stop() {
  stopped_ = true;
  payload_ = {};
}

}  // namespace djinn::transport
