// SPDX-License-Identifier: Apache-2.0
#include "serialization/codec/messages.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include <capnp/message.h>
#include <kj/exception.h>

#include "serialization/base/limits.h"
#include "serialization/schema/protocol.capnp.h"

namespace djinn::codec {
namespace {

kj::ArrayPtr<const capnp::byte> data(ByteView view) { return {view.data(), view.size()}; }
ByteView view(capnp::Data::Reader reader) { return {reader.begin(), reader.size()}; }
std::string_view view(capnp::Text::Reader reader) { return {reader.cStr(), reader.size()}; }
// Text goes in by its length: a string_view may hold zero bytes, and needs none behind it.
kj::uint length(std::string_view text) { return static_cast<kj::uint>(text.size()); }
void put(capnp::Text::Builder place, std::string_view text) {
  std::copy(text.begin(), text.end(), place.begin());
}
constexpr size_t kOverheadWords = 32;  // root, structs and list tags of the largest struct

// Builds one struct in one segment. `variable_bytes` is the length of everything behind pointers.
template <typename Schema, typename Fill>
Message build(size_t variable_bytes, Fill fill) {
  std::array<capnp::word, kOverheadWords> small{};
  const size_t words = kOverheadWords + variable_bytes / sizeof(capnp::word);
  capnp::MallocMessageBuilder builder =
      variable_bytes == 0 ? capnp::MallocMessageBuilder(kj::arrayPtr(small.data(), small.size()))
                          : capnp::MallocMessageBuilder(static_cast<kj::uint>(words),
                                                        capnp::AllocationStrategy::FIXED_SIZE);
  fill(builder.initRoot<Schema>());
  const auto segments = builder.getSegmentsForOutput();
  assert(segments.size() == 1 && "`words` bounds the message");
  Message out;
  uint64_t* to = out.resize(segments[0].size());
  std::memcpy(to, segments[0].begin(), segments[0].size() * sizeof(capnp::word));
  return out;
}

// Reads one struct in place; what kj throws becomes an Error.
template <typename Schema, typename Read>
auto parse(Bytes message, Read read)
    -> Result<decltype(read(std::declval<typename Schema::Reader>()))> {
  capnp::ReaderOptions options;
  options.traversalLimitInWords = kMessageBytesMax / sizeof(capnp::word) + 1024;
  options.nestingLimit = 8;
  try {
    const std::array<kj::ArrayPtr<const capnp::word>, 1> segments{
        kj::ArrayPtr<const capnp::word>(reinterpret_cast<const capnp::word*>(message.data()),
                                        message.size() / sizeof(capnp::word))};
    capnp::SegmentArrayMessageReader reader(kj::arrayPtr(segments.data(), 1), options);
    return read(reader.getRoot<Schema>());
  } catch (const kj::Exception& e) {
    return Error{ErrorCode::kInvalid, std::string("message: ") + e.getDescription().cStr()};
  }
}

Error out_of_bounds(const char* what) {
  return {ErrorCode::kInvalid, std::string("message: ") + what + " is out of bounds"};
}

size_t text_bytes(std::string_view text) { return text.size() + 16; }

}  // namespace

uint64_t* Message::resize(size_t words) {
  words_ = words;
  if (words <= kSmallWords) return small_;
  large_.resize(words);
  return large_.data();
}

Message encode(const Hello& hello) {
  return build<schema::Hello>(text_bytes(hello.token) + text_bytes(hello.app) +
                                  text_bytes(hello.libtorch) + hello.schema_hash.size() + 32,
                              [&](schema::Hello::Builder out) {
                                out.setVersionMin(hello.version_min);
                                out.setVersionMax(hello.version_max);
                                put(out.initToken(length(hello.token)), hello.token);
                                put(out.initApp(length(hello.app)), hello.app);
                                put(out.initLibtorch(length(hello.libtorch)), hello.libtorch);
                                out.setSchemaHash(data(hello.schema_hash));
                              });
}

template <>
Result<Hello> decode<Hello>(Bytes message) {
  return parse<schema::Hello>(message, [](schema::Hello::Reader in) {
    return Hello{.version_min = in.getVersionMin(),
                 .version_max = in.getVersionMax(),
                 .token = view(in.getToken()),
                 .app = view(in.getApp()),
                 .libtorch = view(in.getLibtorch()),
                 .schema_hash = view(in.getSchemaHash())};
  });
}

Message encode(const HelloReply& reply) {
  return build<schema::HelloReply>(
      text_bytes(reply.libtorch) + text_bytes(reply.device) + reply.artifact_key.size() + 64,
      [&](schema::HelloReply::Builder out) {
        out.setVersion(reply.version);
        out.setSession(reply.session);
        put(out.initLibtorch(length(reply.libtorch)), reply.libtorch);
        out.setSchemasMatch(reply.schemas_match);
        put(out.initDevice(length(reply.device)), reply.device);
        out.setPlanSlotsMax(reply.plan_slots_max);
        out.setPlanBytesMax(reply.plan_bytes_max);
        out.setJobsInFlightMax(reply.jobs_in_flight_max);
        out.setStagedBytesMax(reply.staged_bytes_max);
        out.setArtifactBytesMin(reply.artifact_bytes_min);
        out.setArtifactKey(data(reply.artifact_key));
      });
}

template <>
Result<HelloReply> decode<HelloReply>(Bytes message) {
  auto out = parse<schema::HelloReply>(message, [](schema::HelloReply::Reader in) {
    return HelloReply{.version = in.getVersion(),
                      .session = in.getSession(),
                      .libtorch = view(in.getLibtorch()),
                      .schemas_match = in.getSchemasMatch(),
                      .device = view(in.getDevice()),
                      .plan_slots_max = in.getPlanSlotsMax(),
                      .plan_bytes_max = in.getPlanBytesMax(),
                      .jobs_in_flight_max = in.getJobsInFlightMax(),
                      .staged_bytes_max = in.getStagedBytesMax(),
                      .artifact_bytes_min = in.getArtifactBytesMin(),
                      .artifact_key = view(in.getArtifactKey())};
  });
  if (out && !out->artifact_key.empty() && out->artifact_key.size() != kArtifactKeyBytes) {
    return out_of_bounds("the key of artifacts");
  }
  return out;
}

Message encode(const Operators& operators) {
  size_t bytes = operators.hashes.size() * 8 + 16;
  for (const auto name : operators.names) bytes += 8 + text_bytes(name);
  return build<schema::Operators>(bytes, [&](schema::Operators::Builder out) {
    auto names = out.initNames(static_cast<kj::uint>(operators.names.size()));
    for (kj::uint i = 0; i < names.size(); ++i) {
      put(names.init(i, length(operators.names[i])), operators.names[i]);
    }
    auto hashes = out.initHashes(static_cast<kj::uint>(operators.hashes.size()));
    for (kj::uint i = 0; i < hashes.size(); ++i) hashes.set(i, operators.hashes[i]);
  });
}

template <>
Result<Operators> decode<Operators>(Bytes message) {
  auto out = parse<schema::Operators>(message, [](schema::Operators::Reader in) {
    Operators operators;
    for (const auto name : in.getNames()) operators.names.push_back(view(name));
    for (const auto hash : in.getHashes()) operators.hashes.push_back(hash);
    return operators;
  });
  if (out && out->names.size() != out->hashes.size()) return out_of_bounds("a list of operators");
  return out;
}

Message encode(const OperatorsReply& reply) {
  return build<schema::OperatorsReply>(
      reply.unsupported.size() * 4 + 16, [&](schema::OperatorsReply::Builder out) {
        auto list = out.initUnsupported(static_cast<kj::uint>(reply.unsupported.size()));
        for (kj::uint i = 0; i < list.size(); ++i) list.set(i, reply.unsupported[i]);
      });
}

template <>
Result<OperatorsReply> decode<OperatorsReply>(Bytes message) {
  return parse<schema::OperatorsReply>(message, [](schema::OperatorsReply::Reader in) {
    OperatorsReply reply;
    for (const auto index : in.getUnsupported()) reply.unsupported.push_back(index);
    return reply;
  });
}

Message encode(const Step& step) {
  return build<schema::Step>(0, [&](schema::Step::Builder out) {
    out.setJob(step.job);
    out.setChecksum(step.checksum);
    out.setPlanSlot(step.plan_slot);
    out.setEpoch(step.epoch);
  });
}

template <>
Result<Step> decode<Step>(Bytes message) {
  return parse<schema::Step>(message, [](schema::Step::Reader in) {
    return Step{.job = in.getJob(),
                .checksum = in.getChecksum(),
                .plan_slot = in.getPlanSlot(),
                .epoch = in.getEpoch()};
  });
}

Message encode(const Job& job) {
  return build<schema::Job>(job.patch.size() + job.plan.size() + 32, [&](schema::Job::Builder out) {
    out.setJob(job.job);
    out.setChecksum(job.checksum);
    out.setPlanSlot(job.plan_slot);
    out.setEpoch(job.epoch);
    out.setPatchPacked(job.patch_packed);
    out.setPlanPacked(job.plan_packed);
    if (!job.patch.empty()) out.setPatch(data(job.patch));
    if (!job.plan.empty()) out.setPlan(data(job.plan));
  });
}

template <>
Result<Job> decode<Job>(Bytes message) {
  return parse<schema::Job>(message, [](schema::Job::Reader in) {
    return Job{.job = in.getJob(),
               .checksum = in.getChecksum(),
               .plan_slot = in.getPlanSlot(),
               .epoch = in.getEpoch(),
               .patch_packed = in.getPatchPacked(),
               .plan_packed = in.getPlanPacked(),
               .patch = view(in.getPatch()),
               .plan = view(in.getPlan())};
  });
}

Message encode(const Upload& upload) {
  return build<schema::Upload>(upload.artifact.size() + 16, [&](schema::Upload::Builder out) {
    out.setUpload(upload.upload);
    if (!upload.artifact.empty()) out.setArtifact(data(upload.artifact));
  });
}

template <>
Result<Upload> decode<Upload>(Bytes message) {
  auto out = parse<schema::Upload>(message, [](schema::Upload::Reader in) {
    return Upload{.upload = in.getUpload(), .artifact = view(in.getArtifact())};
  });
  if (out && !out->artifact.empty() && out->artifact.size() != kArtifactNameBytes) {
    return out_of_bounds("an artifact's name");
  }
  return out;
}

Message encode(const Offer& offer) {
  return build<schema::Offer>(offer.names.size() + 16 * offer.uploads.size() + 32,
                              [&](schema::Offer::Builder out) {
                                const auto count = static_cast<kj::uint>(offer.uploads.size());
                                auto uploads = out.initUploads(count);
                                auto lengths = out.initLengths(count);
                                for (kj::uint i = 0; i < count; ++i) {
                                  uploads.set(i, offer.uploads[i]);
                                  lengths.set(i, offer.lengths[i]);
                                }
                                out.setNames(data(offer.names));
                              });
}

template <>
Result<Offer> decode<Offer>(Bytes message) {
  auto out = parse<schema::Offer>(message, [](schema::Offer::Reader in) {
    Offer offer;
    for (const auto upload : in.getUploads()) offer.uploads.push_back(upload);
    for (const auto length : in.getLengths()) offer.lengths.push_back(length);
    offer.names = view(in.getNames());
    return offer;
  });
  if (!out) return out;
  const size_t count = out->uploads.size();
  if (count > kArtifactOffersMax || out->lengths.size() != count ||
      out->names.size() != count * kArtifactNameBytes) {
    return out_of_bounds("an offer");
  }
  return out;
}

Message encode(const OfferReply& reply) {
  return build<schema::OfferReply>(
      reply.have.size() / 8 + 16, [&](schema::OfferReply::Builder out) {
        auto have = out.initHave(static_cast<kj::uint>(reply.have.size()));
        for (kj::uint i = 0; i < have.size(); ++i) have.set(i, reply.have[i]);
      });
}

template <>
Result<OfferReply> decode<OfferReply>(Bytes message) {
  return parse<schema::OfferReply>(message, [](schema::OfferReply::Reader in) {
    OfferReply reply;
    for (const auto have : in.getHave()) reply.have.push_back(have);
    return reply;
  });
}

Message encode(const Fetched& fetched) {
  return build<schema::Fetched>(0, [&](schema::Fetched::Builder out) {
    out.setJob(fetched.job);
    out.setAnswer(fetched.answer);
    out.setFinished(fetched.finished);
  });
}

template <>
Result<Fetched> decode<Fetched>(Bytes message) {
  return parse<schema::Fetched>(message, [](schema::Fetched::Reader in) {
    return Fetched{.job = in.getJob(), .answer = in.getAnswer(), .finished = in.getFinished()};
  });
}

Message encode(const Failed& failed) {
  return build<schema::Failed>(text_bytes(failed.message), [&](schema::Failed::Builder out) {
    out.setJob(failed.job);
    out.setAnswer(failed.answer);
    out.setFinished(failed.finished);
    out.setCode(failed.code);
    put(out.initMessage(length(failed.message)), failed.message);
  });
}

template <>
Result<Failed> decode<Failed>(Bytes message) {
  return parse<schema::Failed>(message, [](schema::Failed::Reader in) {
    return Failed{.job = in.getJob(),
                  .answer = in.getAnswer(),
                  .finished = in.getFinished(),
                  .code = in.getCode(),
                  .message = view(in.getMessage())};
  });
}

Message encode(const Ack& ack) {
  return build<schema::Ack>(0, [&](schema::Ack::Builder out) { out.setFinished(ack.finished); });
}

template <>
Result<Ack> decode<Ack>(Bytes message) {
  return parse<schema::Ack>(
      message, [](schema::Ack::Reader in) { return Ack{.finished = in.getFinished()}; });
}

Message encode(const Resync& resync) {
  return build<schema::Resync>(0, [&](schema::Resync::Builder out) {
    out.setJob(resync.job);
    out.setEpoch(resync.epoch);
  });
}

template <>
Result<Resync> decode<Resync>(Bytes message) {
  return parse<schema::Resync>(message, [](schema::Resync::Reader in) {
    return Resync{.job = in.getJob(), .epoch = in.getEpoch()};
  });
}

Message encode(const Refused& refused) {
  return build<schema::Refused>(0, [&](schema::Refused::Builder out) {
    out.setJob(refused.job);
    out.setEpoch(refused.epoch);
    out.setRetryAfterMs(refused.retry_after_ms);
    out.setCode(refused.code);
  });
}

template <>
Result<Refused> decode<Refused>(Bytes message) {
  return parse<schema::Refused>(message, [](schema::Refused::Reader in) {
    return Refused{.job = in.getJob(),
                   .epoch = in.getEpoch(),
                   .retry_after_ms = in.getRetryAfterMs(),
                   .code = in.getCode()};
  });
}

Message encode(const Hint& hint) {
  return build<schema::Hint>(0, [&](schema::Hint::Builder out) {
    out.setPhase(static_cast<uint8_t>(hint.phase));
    out.setUrgency(static_cast<uint8_t>(hint.urgency));
    out.setRest(static_cast<uint8_t>(hint.rest));
    out.setResumeMs(hint.resume_ms);
    out.setDeadlineMs(hint.deadline_ms);
  });
}

template <>
Result<Hint> decode<Hint>(Bytes message) {
  auto out = parse<schema::Hint>(message, [](schema::Hint::Reader in) {
    return Hint{.phase = static_cast<JobPhase>(in.getPhase()),
                .urgency = static_cast<Urgency>(in.getUrgency()),
                .rest = static_cast<Rest>(in.getRest()),
                .resume_ms = in.getResumeMs(),
                .deadline_ms = in.getDeadlineMs()};
  });
  if (!out) return out;
  const uint32_t resume_ms_max = out->rest == Rest::kUntil ? kResumeMsMax : 0;
  if (static_cast<uint8_t>(out->phase) > kJobPhaseMax ||
      static_cast<uint8_t>(out->urgency) > kUrgencyMax ||
      static_cast<uint8_t>(out->rest) > kRestMax || out->resume_ms > resume_ms_max ||
      out->deadline_ms > kDeadlineMsMax) {
    return out_of_bounds("a hint");
  }
  return out;
}

Message encode(const Heartbeat& /*heartbeat*/) {
  return build<schema::Heartbeat>(0, [](schema::Heartbeat::Builder) {});
}

template <>
Result<Heartbeat> decode<Heartbeat>(Bytes message) {
  return parse<schema::Heartbeat>(message, [](schema::Heartbeat::Reader) { return Heartbeat{}; });
}

Message encode(const Goodbye& goodbye) {
  return build<schema::Goodbye>(text_bytes(goodbye.message), [&](schema::Goodbye::Builder out) {
    out.setCode(goodbye.code);
    out.setRetryAfterMs(goodbye.retry_after_ms);
    put(out.initMessage(length(goodbye.message)), goodbye.message);
  });
}

template <>
Result<Goodbye> decode<Goodbye>(Bytes message) {
  return parse<schema::Goodbye>(message, [](schema::Goodbye::Reader in) {
    return Goodbye{.code = in.getCode(),
                   .message = view(in.getMessage()),
                   .retry_after_ms = in.getRetryAfterMs()};
  });
}

Message encode(const StatsRequest& request) {
  return build<schema::StatsRequest>(
      0, [&](schema::StatsRequest::Builder out) { out.setTag(request.tag); });
}

template <>
Result<StatsRequest> decode<StatsRequest>(Bytes message) {
  return parse<schema::StatsRequest>(
      message, [](schema::StatsRequest::Reader in) { return StatsRequest{.tag = in.getTag()}; });
}

Message encode(const StatsReply& reply) {
  return build<schema::StatsReply>(0, [&](schema::StatsReply::Builder out) {
    out.setTag(reply.tag);
    out.setOpsExecuted(reply.ops_executed);
    out.setJobsExecuted(reply.jobs_executed);
    out.setOpsFailed(reply.ops_failed);
    out.setStorages(reply.storages);
    out.setStorageBytes(reply.storage_bytes);
    out.setSharedBytes(reply.shared_bytes);
    out.setPlansBuilt(reply.plans_built);
    out.setUploadBytes(reply.upload_bytes);
    out.setRelayouts(reply.relayouts);
    out.setEnters(reply.enters);
    out.setDeviceBytes(reply.device_bytes);
  });
}

template <>
Result<StatsReply> decode<StatsReply>(Bytes message) {
  return parse<schema::StatsReply>(message, [](schema::StatsReply::Reader in) {
    return StatsReply{.tag = in.getTag(),
                      .ops_executed = in.getOpsExecuted(),
                      .jobs_executed = in.getJobsExecuted(),
                      .ops_failed = in.getOpsFailed(),
                      .storages = in.getStorages(),
                      .storage_bytes = in.getStorageBytes(),
                      .shared_bytes = in.getSharedBytes(),
                      .plans_built = in.getPlansBuilt(),
                      .upload_bytes = in.getUploadBytes(),
                      .relayouts = in.getRelayouts(),
                      .enters = in.getEnters(),
                      .device_bytes = in.getDeviceBytes()};
  });
}

}  // namespace djinn::codec
