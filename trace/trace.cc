// SPDX-License-Identifier: Apache-2.0
#include "trace/trace.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <tuple>
#include <utility>

#include "client/session/mapped_file.h"
#include "serialization/base/limits.h"

namespace djinn::trace {
namespace {

using transport::FrameKind;

constexpr uint16_t kErrorCodeMax = 10;

Error invalid(std::string text) { return {ErrorCode::kInvalid, std::move(text)}; }

// What lies at the front of the bytes, which are long enough.
template <typename T>
T front(Bytes bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

uint64_t padded(uint64_t bytes) { return bytes + transport::padding(bytes); }

// The file's first and last words: is it a trace, of this version, and whole?
Result<> check_ends(Bytes bytes) {
  if (bytes.size() < kFileHeaderBytes ||
      std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return invalid("it is no trace of djinn-trace");
  }
  const auto version = front<uint32_t>(bytes.subspan(kMagic.size()));
  const auto protocol = front<uint32_t>(bytes.subspan(kMagic.size() + sizeof version));
  if (version != kVersion || protocol != codec::kProtocolVersion) {
    return invalid("it is of version " + std::to_string(version) + ", protocol " +
                   std::to_string(protocol) + "; this program reads version " +
                   std::to_string(kVersion) + ", protocol " +
                   std::to_string(codec::kProtocolVersion));
  }
  constexpr size_t kEndBytes = sizeof(RecordHeader) + sizeof(EndMessage);
  if (bytes.size() % 8 != 0 || bytes.size() < kFileHeaderBytes + kEndBytes ||
      front<RecordHeader>(bytes.last(kEndBytes)).kind != static_cast<uint8_t>(RecordKind::kEnd)) {
    return invalid("its end is missing: the recording was cut off");
  }
  const Bytes all = bytes.first(bytes.size() - sizeof(uint64_t));
  if (XXH3_64bits(all.data(), all.size()) != front<uint64_t>(bytes.last(sizeof(uint64_t)))) {
    return invalid("it is damaged: its checksum does not match");
  }
  return Unit{};
}

}  // namespace

struct Trace::Record {
  RecordHeader header;
  Bytes message;
  Bytes payload;
};

struct Trace::Spoken {
  std::once_flag once;
  Result<std::vector<SpokenJob>> jobs = std::vector<SpokenJob>();
};

Trace::Trace() : spoken_(std::make_shared<Spoken>()) {}

Result<std::span<const SpokenJob>> Trace::spoken() const {
  std::call_once(spoken_->once, [this] { spoken_->jobs = understand(said_); });
  if (!spoken_->jobs) return spoken_->jobs.error();
  return std::span<const SpokenJob>(*spoken_->jobs);
}

Result<Trace> Trace::open(const std::string& path) {
  DJINN_TRY(auto file, client::MappedFile::open(path));
  const Bytes bytes = file->bytes();
  auto trace = read(bytes, std::move(file));
  if (!trace) return invalid(path + ": " + trace.error().message);
  return trace;
}

Result<Trace> Trace::read(Bytes bytes, std::shared_ptr<const void> owner) {
  DJINN_CHECK(check_ends(bytes));
  Trace trace;
  trace.owner_ = std::move(owner);
  Bytes rest = bytes.subspan(kFileHeaderBytes);
  for (uint64_t records = 0;; ++records) {
    const auto at = [&] { return " at byte " + std::to_string(bytes.size() - rest.size()); };
    if (rest.size() < sizeof(RecordHeader)) return invalid("half a record" + at());
    Record record{.header = front<RecordHeader>(rest), .message = {}, .payload = {}};
    const RecordHeader& header = record.header;
    const Bytes body = rest.subspan(sizeof header);
    if (header.message_bytes > kMessageBytesMax || header.message_bytes % 8 != 0 ||
        header.message_bytes > body.size() || header.payload_bytes > kPayloadBytesMax ||
        padded(header.payload_bytes) > body.size() - header.message_bytes) {
      return invalid("a record that is longer than the file or its bounds" + at());
    }
    record.message = body.first(header.message_bytes);
    record.payload = body.subspan(header.message_bytes, header.payload_bytes);
    if (header.kind == static_cast<uint8_t>(RecordKind::kEnd)) {
      if (record.message.size() != sizeof(EndMessage) || !record.payload.empty() ||
          body.size() != sizeof(EndMessage) || front<uint64_t>(record.message) != records) {
        return invalid("an end that is not the end" + at());
      }
      break;
    }
    if (const auto added = trace.add(record); !added) {
      return invalid(added.error().message + at());
    }
    rest = body.subspan(header.message_bytes + padded(header.payload_bytes));
  }
  if (!trace.greeted_) return invalid("it has no hello");
  DJINN_CHECK(trace.index());
  return trace;
}

Result<> Trace::add(const Record& record) {
  const auto kind = static_cast<RecordKind>(record.header.kind);
  if (greeted_ == (kind == RecordKind::kHello)) {
    return invalid(greeted_ ? "a second hello" : "the first record is no hello");
  }
  if (record.header.zero != 0 || (record.header.frame != 0) != (kind == RecordKind::kFrame) ||
      record.header.time_us < std::exchange(time_us_, record.header.time_us)) {
    return invalid("a record's header is wrong");
  }
  const bool said = kind == RecordKind::kFrame || kind == RecordKind::kArtifact;
  if (said ? record.header.after < std::exchange(after_, record.header.after)
           : record.header.after != 0) {
    return invalid("answers that became fewer");
  }
  if (record.header.after > answers_.size())
    return invalid("a frame that waits for answers to come");
  switch (kind) {
    case RecordKind::kHello: {
      DJINN_TRY(hello_, codec::decode<codec::Hello>(record.message));
      if (!hello_.token.empty() || !record.payload.empty()) {
        return invalid("a hello with more than belongs in it");
      }
      greeted_ = true;
      return Unit{};
    }
    case RecordKind::kFrame:
      return add_frame(record);
    case RecordKind::kArtifact:
      return add_artifact(record);
    case RecordKind::kAnswer:
      return add_answer(record);
    case RecordKind::kEnd:
      break;
  }
  return invalid("a record of unknown kind " + std::to_string(record.header.kind));
}

Result<> Trace::add_frame(const Record& record) {
  Said said{.kind = static_cast<FrameKind>(record.header.frame),
            .after = record.header.after,
            .time_us = record.header.time_us,
            .upload = {},
            .message = record.message,
            .payload = record.payload};
  switch (said.kind) {
    case FrameKind::kStep: {
      DJINN_TRY(const auto step, codec::decode<codec::Step>(said.message));
      DJINN_CHECK(add_job(step.job, step.epoch));
      said.job = step.job;
      break;
    }
    case FrameKind::kJob: {
      DJINN_TRY(const auto job, codec::decode<codec::Job>(said.message));
      DJINN_CHECK(add_job(job.job, job.epoch));
      said.job = job.job;
      break;
    }
    case FrameKind::kUpload: {
      DJINN_TRY(const auto upload, codec::decode<codec::Upload>(said.message));
      if (!upload.artifact.empty()) return invalid("an upload that has a server's name");
      break;
    }
    case FrameKind::kHint: {
      DJINN_TRY([[maybe_unused]] const auto hint, codec::decode<codec::Hint>(said.message));
      break;
    }
    default:
      return invalid("a frame of kind " + std::to_string(record.header.frame) +
                     ", which no trace has");
  }
  if (!said.payload.empty() && said.kind != FrameKind::kJob && said.kind != FrameKind::kUpload) {
    return invalid("a payload where none belongs");
  }
  said_.push_back(said);
  return Unit{};
}

Result<> Trace::add_job(uint32_t job, uint16_t epoch) {
  if (job != jobs_ + 1 || epoch != 0) {
    return invalid("job " + std::to_string(job) + " of epoch " + std::to_string(epoch) +
                   " where job " + std::to_string(jobs_ + 1) + " of epoch 0 was to come");
  }
  jobs_ = job;
  return Unit{};
}

Result<> Trace::add_artifact(const Record& record) {
  if (record.message.size() != sizeof(ArtifactMessage) || record.payload.empty()) {
    return invalid("an artifact that is malformed");
  }
  said_.push_back({.kind = FrameKind::kUpload,
                   .artifact = true,
                   .after = record.header.after,
                   .time_us = record.header.time_us,
                   .upload = front<ArtifactMessage>(record.message),
                   .message = {},
                   .payload = record.payload});
  artifact_bytes_ += record.payload.size();
  return Unit{};
}

Result<> Trace::add_answer(const Record& record) {
  if (record.message.size() != sizeof(AnswerMessage)) return invalid("an answer of no answer");
  const auto answer = front<AnswerMessage>(record.message);
  if (answer.job == 0 || answer.job > jobs_ || answer.code > kErrorCodeMax) {
    return invalid("an answer to a job that was not sent, or of an unknown code");
  }
  answers_.push_back({.what = answer, .time_us = record.header.time_us, .payload = record.payload});
  return Unit{};
}

Result<> Trace::index() {
  by_job_.resize(answers_.size());
  for (uint32_t i = 0; i < by_job_.size(); ++i) by_job_[i] = i;
  const auto key = [this](uint32_t i) {
    return std::tuple(answers_[i].what.job, answers_[i].what.answer);
  };
  std::ranges::sort(by_job_, {}, key);
  if (std::ranges::adjacent_find(by_job_, {}, key) != by_job_.end()) {
    return invalid("two answers to the same question");
  }
  return Unit{};
}

const Answered* Trace::find(uint32_t job, uint16_t answer) const {
  const auto key = [this](uint32_t i) {
    return std::tuple(answers_[i].what.job, answers_[i].what.answer);
  };
  const auto at = std::ranges::lower_bound(by_job_, std::tuple(job, answer), {}, key);
  if (at == by_job_.end() || key(*at) != std::tuple(job, answer)) return nullptr;
  return &answers_[*at];
}

}  // namespace djinn::trace
