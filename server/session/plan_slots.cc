// SPDX-License-Identifier: Apache-2.0
#include "server/session/plan_slots.h"

#include <algorithm>
#include <string>
#include <utility>

#include "serialization/base/limits.h"
#include "serialization/graph/packing.h"

namespace djinn::server {
namespace {

// A plan in memory may be so much larger than what it is charged for; an honest one is about equal.
constexpr uint64_t kPlanGrowthMax = 8;

Error invalid(std::string text) { return {ErrorCode::kInvalid, std::move(text)}; }

}  // namespace

Result<std::optional<PlanSlots::Decoded>> PlanSlots::decode(const codec::Step& step) {
  DJINN_TRY(Slot* const slot, find(step.plan_slot));
  return predict(*slot, {}, step.checksum);
}

Result<std::optional<PlanSlots::Decoded>> PlanSlots::decode(const codec::Job& job) {
  if (!job.plan.empty()) {
    DJINN_TRY([[maybe_unused]] const Unit done, overwrite(job.plan_slot, job));
  }
  DJINN_TRY(Slot* const slot, find(job.plan_slot));
  if (!job.patch_packed) return predict(*slot, job.patch, job.checksum);
  const size_t numbers = slot->coder->plan().kinds.size();
  DJINN_TRY(const graph::ByteString patch,
            graph::unpack(job.patch, numbers * graph::kPatchBytesPerNumberMax));
  return predict(*slot, patch, job.checksum);
}

Result<PlanSlots::Slot*> PlanSlots::find(uint16_t index) {
  if (index >= slots_.size() || slots_[index].coder == nullptr) {
    return invalid("job: plan slot " + std::to_string(index) + " holds no plan");
  }
  return &slots_[index];
}

Result<> PlanSlots::overwrite(uint16_t index, const codec::Job& job) {
  if (index >= kPlanSlotsMax) {
    return invalid("job: plan slot " + std::to_string(index) + " of " +
                   std::to_string(kPlanSlotsMax));
  }
  graph::ByteSpan structure = job.plan;
  graph::ByteString unpacked;
  if (job.plan_packed) {
    DJINN_TRY(unpacked, graph::unpack(job.plan, kStructureBytesMax));
    structure = unpacked;
  }
  if (structure.size() > kStructureBytesMax) return invalid("job: the plan is too long");
  if (index >= slots_.size()) slots_.resize(index + size_t{1});
  charged_bytes_ -= slots_[index].charged_bytes;
  slots_[index] = {};
  DJINN_TRY(auto known, cache_.get(structure));
  const std::shared_ptr<const graph::Plan> plan = std::move(known.plan);
  const uint64_t charged = 16 * plan->kinds.size() + structure.size();
  if (charged_bytes_ + charged > kPlanCacheBytesMax) {
    return Error{ErrorCode::kExhausted, "job: the plans kept here add up to " +
                                            std::to_string(charged_bytes_ + charged) +
                                            " bytes of " + std::to_string(kPlanCacheBytesMax)};
  }
  if (plan->bytes() > kPlanGrowthMax * charged + (64 << 10)) {
    return Error{ErrorCode::kExhausted, "job: a plan of " + std::to_string(charged) +
                                            " bytes would take " + std::to_string(plan->bytes())};
  }
  charged_bytes_ += charged;
  ++plans_received_;
  const bool has_inline_uploads =
      std::any_of(plan->entries.begin(), plan->entries.end(), [](const graph::Entry& entry) {
        return entry.kind == graph::EntryKind::kUpload && entry.form == graph::UploadForm::kInline;
      });
  Slot& slot = slots_[index];
  slot.coder = std::make_unique<graph::NumbersCoder>(plan);
  slot.knowledge = std::move(known.knowledge);
  slot.run_time = std::make_shared<RunTime>();
  slot.has_inline_uploads = has_inline_uploads;
  slot.charged_bytes = charged;
  return Unit{};
}

Result<std::optional<PlanSlots::Decoded>> PlanSlots::predict(Slot& slot, graph::ByteSpan patch,
                                                             uint32_t checksum) {
  DJINN_TRY(graph::SharedNumbers numbers, slot.coder->decode(patch));
  if (graph::checksum(*numbers) != checksum) return std::optional<Decoded>();
  slot.coder->keep(numbers);
  return std::optional<Decoded>({.plan = slot.coder->shared_plan(),
                                 .knowledge = slot.knowledge,
                                 .numbers = std::move(numbers),
                                 .run_time = slot.run_time,
                                 .has_inline_uploads = slot.has_inline_uploads});
}

void PlanSlots::forget() {
  slots_.clear();
  slots_.shrink_to_fit();
  charged_bytes_ = 0;
}

void PlanSlots::compact() {
  for (Slot& slot : slots_) {
    if (slot.coder != nullptr) slot.coder->compact();
  }
}

size_t PlanSlots::bytes() const {
  size_t total = slots_.capacity() * sizeof(Slot);
  for (const Slot& slot : slots_) {
    if (slot.coder != nullptr) total += slot.coder->bytes() + sizeof(RunTime);
  }
  return total;
}

}  // namespace djinn::server
