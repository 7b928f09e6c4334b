// SPDX-License-Identifier: Apache-2.0
#include "trace/jobs.h"

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "serialization/base/limits.h"
#include "serialization/graph/packing.h"
#include "serialization/graph/plan_reader.h"
#include "trace/trace.h"

namespace djinn::trace {
namespace {

using transport::FrameKind;

// What a server keeps of a plan.
struct Slot {
  std::shared_ptr<const graph::ByteString> structure;
  graph::NumbersCoder coder;
};
using Slots = std::array<std::optional<Slot>, kPlanSlotsMax>;

Error invalid(uint32_t job, const std::string& what) {
  return {ErrorCode::kInvalid, "job " + std::to_string(job) + " of the trace: " + what};
}

Result<Slot> slot_of(const codec::Job& job) {
  graph::ByteString structure(job.plan.begin(), job.plan.end());
  if (job.plan_packed) {
    DJINN_TRY(structure, graph::unpack(job.plan, kStructureBytesMax));
  }
  DJINN_TRY(auto plan, graph::read_plan(structure));
  return Slot{.structure = std::make_shared<const graph::ByteString>(std::move(structure)),
              .coder = graph::NumbersCoder(std::make_shared<graph::Plan>(std::move(plan)))};
}

// A Step is a Job without a patch.
Result<codec::Job> job_of(const Said& said) {
  if (said.kind == FrameKind::kJob) return codec::decode<codec::Job>(said.message);
  DJINN_TRY(const auto step, codec::decode<codec::Step>(said.message));
  return codec::Job{
      .job = step.job, .checksum = step.checksum, .plan_slot = step.plan_slot, .epoch = step.epoch};
}

Result<SpokenJob> understand(Slots& slots, const codec::Job& job) {
  if (job.plan_slot >= slots.size()) return invalid(job.job, "its plan has no slot");
  std::optional<Slot>& slot = slots.at(job.plan_slot);
  if (!job.plan.empty()) {
    DJINN_TRY(slot, slot_of(job));
  }
  if (!slot) return invalid(job.job, "its plan was not said before");
  graph::ByteString patch(job.patch.begin(), job.patch.end());
  if (job.patch_packed) {
    const size_t numbers = slot->coder.plan().kinds.size();
    DJINN_TRY(patch, graph::unpack(job.patch, numbers * graph::kPatchBytesPerNumberMax));
  }
  DJINN_TRY(graph::SharedNumbers numbers, slot->coder.decode(patch));
  if (graph::checksum(*numbers) != job.checksum) {
    return invalid(job.job, "its numbers have another checksum");
  }
  slot->coder.keep(numbers);
  return SpokenJob{
      .hash = slot->coder.plan().hash, .structure = slot->structure, .numbers = std::move(numbers)};
}

}  // namespace

Result<std::vector<SpokenJob>> understand(std::span<const Said> said) {
  std::vector<SpokenJob> jobs;
  const auto slots = std::make_unique<Slots>();
  for (size_t i = 0; i < said.size(); ++i) {
    if (said[i].job == 0) continue;
    DJINN_TRY(const codec::Job message, job_of(said[i]));
    DJINN_TRY(SpokenJob job, understand(*slots, message));
    job.said = i;
    jobs.push_back(std::move(job));
  }
  return jobs;
}

}  // namespace djinn::trace
