// SPDX-License-Identifier: Apache-2.0
// Job code: the frame that says a job, given what the server knows of its plan by now.
//
// One place for all who say jobs, first or again: the plan in full if the server has it not, else
// what its numbers differ from those that it predicts, else nothing but the job's number.
// Threading: the session's turn.
#pragma once

#include <cstdint>
#include <memory>

#include "client/session/plan_cache.h"
#include "serialization/base/result.h"
#include "serialization/codec/messages.h"
#include "serialization/graph/plan.h"
#include "serialization/transport/frame.h"

namespace djinn::client {

struct JobSource {
  uint32_t job = 0;
  uint16_t epoch = 0;
  bool has_payload = false;  // inline uploads, which are the frame's payload
  graph::PlanHash hash = {};
  std::shared_ptr<const graph::ByteString> structure;
  graph::SharedNumbers numbers;
};

struct JobFrame {
  transport::FrameKind kind = transport::FrameKind::kJob;
  codec::Message message;
  uint64_t plan_bytes = 0;  // of a plan that is sent in full, with its numbers; else 0
};

// Afterwards the plan is in `plans`, and its coder has these numbers. kInvalid: the structure is
// malformed, or larger than all the plans that the server keeps.
Result<JobFrame> encode_job(PlanCache& plans, const JobSource& source);

}  // namespace djinn::client
