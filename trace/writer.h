// SPDX-License-Identifier: Apache-2.0
// Writer: a trace, written while it happens (format.h).
//
// A trace without its end is refused by who reads it: what was cut off is never taken for whole.
// Ownership: borrows the stream. Threading: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <ostream>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"
#include "serialization/transport/frame.h"
#include "trace/format.h"

struct XXH3_state_s;

namespace djinn::trace {

using transport::Bytes;

class Writer {
 public:
  explicit Writer(std::ostream& out);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // The times are counted from here.
  void hello(Bytes message);
  // What the client said when it had so many answers.
  void frame(transport::FrameKind kind, Bytes message, Bytes payload, uint64_t time_us);
  void artifact(const ArtifactMessage& artifact, Bytes payload, uint64_t time_us);
  void answer(const AnswerMessage& answer, Bytes payload, uint64_t time_us);

  // kFailed: not all of it could be written.
  Result<> finish();

  [[nodiscard]] uint64_t records() const { return records_; }
  [[nodiscard]] uint32_t answers() const { return answers_; }

 private:
  void record(RecordHeader header, Bytes message, Bytes payload);
  void padded(Bytes part);
  void bytes(Bytes part);

  std::ostream& out_;
  std::unique_ptr<XXH3_state_s, void (*)(XXH3_state_s*)> checksum_;
  uint64_t records_ = 0;
  uint32_t answers_ = 0;
};

}  // namespace djinn::trace
