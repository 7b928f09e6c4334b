// SPDX-License-Identifier: Apache-2.0
#include "client/session/job_code.h"

#include "serialization/graph/packing.h"

namespace djinn::client {

using transport::FrameKind;

namespace {

constexpr size_t kPackFrom = 160;  // Shorter patches do not get smaller.

Result<JobFrame> in_full(PlanCache& plans, const JobSource& source) {
  DJINN_TRY(CachedPlan* const plan, plans.insert(source.structure));
  graph::ByteString patch;
  plan->coder.encode(source.numbers, patch);
  const graph::ByteString structure = graph::pack(*source.structure);
  patch = graph::pack(patch);
  return JobFrame{.kind = FrameKind::kJob,
                  .message = codec::encode(codec::Job{.job = source.job,
                                                      .checksum = graph::checksum(*source.numbers),
                                                      .plan_slot = plan->slot,
                                                      .epoch = source.epoch,
                                                      .patch_packed = true,
                                                      .plan_packed = true,
                                                      .patch = patch,
                                                      .plan = structure}),
                  .plan_bytes = structure.size() + patch.size()};
}

}  // namespace

Result<JobFrame> encode_job(PlanCache& plans, const JobSource& source) {
  CachedPlan* const plan = plans.find(source.hash, *source.structure);
  if (plan == nullptr) return in_full(plans, source);
  graph::ByteString patch;
  plan->coder.encode(source.numbers, patch);
  const uint32_t checksum = graph::checksum(*source.numbers);
  if (patch.empty() && !source.has_payload) {
    return JobFrame{.kind = FrameKind::kStep,
                    .message = codec::encode(codec::Step{.job = source.job,
                                                         .checksum = checksum,
                                                         .plan_slot = plan->slot,
                                                         .epoch = source.epoch})};
  }
  const bool packed = patch.size() >= kPackFrom;
  if (packed) patch = graph::pack(patch);
  return JobFrame{.kind = FrameKind::kJob,
                  .message = codec::encode(codec::Job{.job = source.job,
                                                      .checksum = checksum,
                                                      .plan_slot = plan->slot,
                                                      .epoch = source.epoch,
                                                      .patch_packed = packed,
                                                      .patch = patch})};
}

}  // namespace djinn::client
