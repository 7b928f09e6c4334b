// SPDX-License-Identifier: Apache-2.0
// Trace: what one session said and was answered, read from a file and checked at the door.
//
// Why at the door: what plays it needs no further checks, and a file that was cut short or damaged
// is one sentence instead of a session that goes wrong in the middle.
// Ownership: owns the mapping; Said and Answered view it. Threading: immutable; what is
// understood late is so behind a lock.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/codec/messages.h"
#include "serialization/transport/connection.h"
#include "serialization/transport/frame.h"
#include "trace/format.h"
#include "trace/jobs.h"

namespace djinn::trace {

using transport::Bytes;

// Something the client said, in the order in which it did.
struct Said {
  transport::FrameKind kind = transport::FrameKind::kHeartbeat;
  bool artifact = false;  // An Upload whose bytes others may share: it is offered first.
  uint32_t after = 0;     // So many answers it had then.
  uint32_t job = 0;       // Of a Step or Job.
  uint64_t time_us = 0;
  ArtifactMessage upload;  // Of an artifact.
  Bytes message;           // Empty for an artifact.
  Bytes payload;
};

struct Answered {
  AnswerMessage what;
  uint64_t time_us = 0;
  Bytes payload;  // The text of an error if it has a code.
};

class Trace {
 public:
  // kInvalid says what is wrong and at which byte; kNotFound names the path.
  static Result<Trace> open(const std::string& path);
  // The bytes (8-byte aligned) live as long as `owner`.
  static Result<Trace> read(Bytes bytes, std::shared_ptr<const void> owner);

  [[nodiscard]] const codec::Hello& hello() const { return hello_; }  // without a token
  [[nodiscard]] std::span<const Said> said() const { return said_; }
  [[nodiscard]] std::span<const Answered> answers() const { return answers_; }
  [[nodiscard]] uint32_t jobs() const { return jobs_; }
  [[nodiscard]] uint64_t artifact_bytes() const { return artifact_bytes_; }
  // All jobs without their history (trace/jobs.h). They are understood when somebody asks first,
  // and kept, with all numbers of all of them.
  [[nodiscard]] Result<std::span<const SpokenJob>> spoken() const;
  // Null: nobody asked for it.
  [[nodiscard]] const Answered* find(uint32_t job, uint16_t answer) const;

 private:
  Trace();

  struct Record;
  Result<> add(const Record& record);
  Result<> add_frame(const Record& record);
  Result<> add_artifact(const Record& record);
  Result<> add_answer(const Record& record);
  Result<> add_job(uint32_t job, uint16_t epoch);
  Result<> index();

  struct Spoken;
  std::shared_ptr<const void> owner_;
  std::shared_ptr<Spoken> spoken_;  // Of all copies; filled once.
  codec::Hello hello_;
  bool greeted_ = false;
  std::vector<Said> said_;
  std::vector<Answered> answers_;
  std::vector<uint32_t> by_job_;  // Indices of answers, by job and answer.
  uint32_t jobs_ = 0;
  uint64_t artifact_bytes_ = 0;
  uint64_t time_us_ = 0;
  uint32_t after_ = 0;
};

}  // namespace djinn::trace
