// SPDX-License-Identifier: Apache-2.0
// Messages: the structs of schema/protocol.capnp as plain C++, encoded into one segment and decoded
// in place.
//
// Why plain structs: Cap'n Proto stays in this room, its exceptions too. What a struct views
// (spans, string_views) lies in the message it was decoded from, or belongs to whoever encodes.
// The meaning of each field is in the schema; names are the same.
// Threading: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serialization/base/hints.h"
#include "serialization/base/result.h"

namespace djinn::codec {

using Bytes = std::span<const std::byte>;
using ByteView = std::span<const uint8_t>;

inline constexpr uint16_t kProtocolVersion = 1;
inline constexpr size_t kArtifactNameBytes = 32;
inline constexpr size_t kArtifactKeyBytes = 32;
inline constexpr size_t kSchemaHashBytes = 16;

// An encoded message: a multiple of 8 bytes, 8-byte aligned. Small ones need no allocation.
class Message {
 public:
  [[nodiscard]] Bytes bytes() const {
    return std::as_bytes(large_.empty() ? std::span<const uint64_t>(small_, words_)
                                        : std::span<const uint64_t>(large_));
  }

  static constexpr size_t kSmallWords = 8;
  // For the encoder.
  uint64_t* resize(size_t words);

 private:
  uint64_t small_[kSmallWords] = {};
  size_t words_ = 0;
  std::vector<uint64_t> large_;
};

struct Hello {
  uint16_t version_min = kProtocolVersion;
  uint16_t version_max = kProtocolVersion;
  std::string_view token = {};
  std::string_view app = {};
  std::string_view libtorch = {};
  ByteView schema_hash = {};
};
struct HelloReply {
  uint16_t version = kProtocolVersion;
  uint64_t session = 0;
  std::string_view libtorch = {};
  bool schemas_match = false;
  std::string_view device = {};
  uint16_t plan_slots_max = 0;
  uint64_t plan_bytes_max = 0;
  uint16_t jobs_in_flight_max = 0;
  uint64_t staged_bytes_max = 0;
  uint64_t artifact_bytes_min = 0;
  ByteView artifact_key = {};
};
struct Operators {
  std::vector<std::string_view> names = {};
  std::vector<uint64_t> hashes = {};
};
struct OperatorsReply {
  std::vector<uint32_t> unsupported = {};
};
struct Step {
  uint32_t job = 0;
  uint32_t checksum = 0;
  uint16_t plan_slot = 0;
  uint16_t epoch = 0;
};
struct Job {
  uint32_t job = 0;
  uint32_t checksum = 0;
  uint16_t plan_slot = 0;
  uint16_t epoch = 0;
  bool patch_packed = false;
  bool plan_packed = false;
  ByteView patch = {};
  ByteView plan = {};
};
struct Upload {
  uint64_t upload = 0;
  ByteView artifact = {};
};
struct Offer {
  std::vector<uint64_t> uploads = {};
  ByteView names = {};
  std::vector<uint64_t> lengths = {};
};
struct OfferReply {
  std::vector<bool> have = {};
};
struct Fetched {
  uint32_t job = 0;
  uint16_t answer = 0;
  bool finished = false;
};
struct Failed {
  uint32_t job = 0;
  uint16_t answer = 0;
  bool finished = false;
  uint16_t code = 0;
  std::string_view message = {};
};
struct Ack {
  uint32_t finished = 0;
};
struct Resync {
  uint32_t job = 0;
  uint16_t epoch = 0;
};

struct Refused {
  uint32_t job = 0;
  uint16_t epoch = 0;
  uint32_t retry_after_ms = 0;
  uint16_t code = 0;
};
struct Hint {
  JobPhase phase = JobPhase::kUnknown;
  Urgency urgency = Urgency::kUnknown;
  Rest rest = Rest::kNone;
  uint32_t resume_ms = 0;
  uint32_t deadline_ms = 0;
};
struct Heartbeat {};
struct Goodbye {
  uint16_t code = 0;
  std::string_view message = {};
  uint32_t retry_after_ms = 0;
};
struct StatsRequest {
  uint32_t tag = 0;
};
struct StatsReply {
  uint32_t tag = 0;
  uint64_t ops_executed = 0;
  uint64_t jobs_executed = 0;
  uint64_t ops_failed = 0;
  uint64_t storages = 0;
  uint64_t storage_bytes = 0;
  uint64_t shared_bytes = 0;
  uint64_t plans_built = 0;
  uint64_t upload_bytes = 0;
  uint64_t relayouts = 0;
  uint64_t enters = 0;
  uint64_t device_bytes = 0;
};

[[nodiscard]] Message encode(const Hello& hello);
[[nodiscard]] Message encode(const HelloReply& reply);
[[nodiscard]] Message encode(const Operators& operators);
[[nodiscard]] Message encode(const OperatorsReply& reply);
[[nodiscard]] Message encode(const Step& step);
[[nodiscard]] Message encode(const Job& job);
[[nodiscard]] Message encode(const Upload& upload);
[[nodiscard]] Message encode(const Offer& offer);
[[nodiscard]] Message encode(const OfferReply& reply);
[[nodiscard]] Message encode(const Fetched& fetched);
[[nodiscard]] Message encode(const Failed& failed);
[[nodiscard]] Message encode(const Ack& ack);
[[nodiscard]] Message encode(const Resync& resync);
[[nodiscard]] Message encode(const Refused& refused);
[[nodiscard]] Message encode(const Hint& hint);
[[nodiscard]] Message encode(const Heartbeat& heartbeat);
[[nodiscard]] Message encode(const Goodbye& goodbye);
[[nodiscard]] Message encode(const StatsRequest& request);
[[nodiscard]] Message encode(const StatsReply& reply);

// decode<Hello>(bytes) and so on, for each struct above. kInvalid if the bytes are not such a
// message or a field is out of bounds; never reads outside `bytes` (8-byte aligned).
template <typename T>
Result<T> decode(Bytes message);

}  // namespace djinn::codec
