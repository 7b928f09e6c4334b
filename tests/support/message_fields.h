// SPDX-License-Identifier: Apache-2.0
// Message fields: all fields of a message as a tuple of values, so that two messages compare.
//
// Why not operator== of the messages: they view memory, and whether equal means "the same bytes" or
// "the same place" is for whoever compares to say. Here it is the bytes.
// Threading: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <tuple>

#include "serialization/codec/messages.h"

namespace djinn::testing {

inline std::string copy(std::string_view text) { return std::string(text); }
inline std::string copy(codec::ByteView bytes) { return {bytes.begin(), bytes.end()}; }

inline auto fields(const codec::Hello& m) {
  return std::tuple(m.version_min, m.version_max, copy(m.token), copy(m.app), copy(m.libtorch),
                    copy(m.schema_hash));
}
inline auto fields(const codec::HelloReply& m) {
  return std::tuple(m.version, m.session, copy(m.libtorch), m.schemas_match, copy(m.device),
                    m.plan_slots_max, m.plan_bytes_max, m.jobs_in_flight_max, m.staged_bytes_max,
                    m.artifact_bytes_min, copy(m.artifact_key));
}
inline auto fields(const codec::Operators& m) {
  return std::tuple(std::vector<std::string>(m.names.begin(), m.names.end()), m.hashes);
}
inline auto fields(const codec::OperatorsReply& m) { return std::tuple(m.unsupported); }
inline auto fields(const codec::Step& m) {
  return std::tuple(m.job, m.checksum, m.plan_slot, m.epoch);
}
inline auto fields(const codec::Job& m) {
  return std::tuple(m.job, m.checksum, m.plan_slot, m.epoch, m.patch_packed, m.plan_packed,
                    copy(m.patch), copy(m.plan));
}
inline auto fields(const codec::Upload& m) { return std::tuple(m.upload, copy(m.artifact)); }
inline auto fields(const codec::Offer& m) {
  return std::tuple(m.uploads, copy(m.names), m.lengths);
}
inline auto fields(const codec::OfferReply& m) { return std::tuple(m.have); }
inline auto fields(const codec::Fetched& m) { return std::tuple(m.job, m.answer, m.finished); }
inline auto fields(const codec::Failed& m) {
  return std::tuple(m.job, m.answer, m.finished, m.code, copy(m.message));
}
inline auto fields(const codec::Ack& m) { return std::tuple(m.finished); }
inline auto fields(const codec::Resync& m) { return std::tuple(m.job, m.epoch); }
inline auto fields(const codec::Refused& m) {
  return std::tuple(m.job, m.epoch, m.retry_after_ms, m.code);
}
inline auto fields(const codec::Hint& m) {
  return std::tuple(m.phase, m.urgency, m.rest, m.resume_ms, m.deadline_ms);
}
inline auto fields(const codec::Heartbeat& /*message*/) { return std::tuple(); }
inline auto fields(const codec::Goodbye& m) {
  return std::tuple(m.code, copy(m.message), m.retry_after_ms);
}
inline auto fields(const codec::StatsRequest& m) { return std::tuple(m.tag); }
inline auto fields(const codec::StatsReply& m) {
  return std::tuple(m.tag, m.ops_executed, m.jobs_executed, m.ops_failed, m.storages,
                    m.storage_bytes, m.shared_bytes, m.plans_built, m.upload_bytes, m.relayouts,
                    m.enters, m.device_bytes);
}

}  // namespace djinn::testing
