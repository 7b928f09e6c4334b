// SPDX-License-Identifier: Apache-2.0
// The messages by a tag of one byte, as request_fuzz reads and fuzz_seeds writes them.
//
// Threading: pure functions.
#pragma once

#include <cstdint>

#include "serialization/codec/messages.h"

namespace djinn::fuzz {

enum class MessageTag : uint8_t {
  kHello,
  kHelloReply,
  kOperators,
  kOperatorsReply,
  kStep,
  kJob,
  kUpload,
  kOffer,
  kOfferReply,
  kFetched,
  kFailed,
  kAck,
  kResync,
  kHeartbeat,
  kGoodbye,
  kStatsRequest,
  kStatsReply,
  kHint,
  kRefused,
  kResults,  // graph/result_meta.h
};
inline constexpr uint8_t kMessageTags = 20;

// Calls `use` with a message of the tag's type.
template <typename Use>
auto with_message_type(MessageTag tag, const Use& use) {
  switch (tag) {
    case MessageTag::kHello:
      return use(codec::Hello{});
    case MessageTag::kHelloReply:
      return use(codec::HelloReply{});
    case MessageTag::kOperators:
      return use(codec::Operators{});
    case MessageTag::kOperatorsReply:
      return use(codec::OperatorsReply{});
    case MessageTag::kStep:
      return use(codec::Step{});
    case MessageTag::kJob:
      return use(codec::Job{});
    case MessageTag::kUpload:
      return use(codec::Upload{});
    case MessageTag::kOffer:
      return use(codec::Offer{});
    case MessageTag::kOfferReply:
      return use(codec::OfferReply{});
    case MessageTag::kFetched:
      return use(codec::Fetched{});
    case MessageTag::kFailed:
      return use(codec::Failed{});
    case MessageTag::kAck:
      return use(codec::Ack{});
    case MessageTag::kResync:
      return use(codec::Resync{});
    case MessageTag::kGoodbye:
      return use(codec::Goodbye{});
    case MessageTag::kStatsRequest:
      return use(codec::StatsRequest{});
    case MessageTag::kStatsReply:
      return use(codec::StatsReply{});
    case MessageTag::kHint:
      return use(codec::Hint{});
    case MessageTag::kRefused:
      return use(codec::Refused{});
    case MessageTag::kHeartbeat:
    case MessageTag::kResults:
      break;
  }
  return use(codec::Heartbeat{});
}

}  // namespace djinn::fuzz
