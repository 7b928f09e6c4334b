// SPDX-License-Identifier: Apache-2.0
// PlanSlots: the plans a session keeps here, in slots that the client names, and what is needed to
// predict the numbers of their next jobs.
//
// Ownership: shares plans with other sessions through the PlanCache. Threading: the I/O thread.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "serialization/codec/messages.h"
#include "serialization/graph/numbers.h"
#include "server/session/plan_cache.h"
#include "server/task.h"

namespace djinn::server {

class PlanSlots {
 public:
  explicit PlanSlots(PlanCache& cache) : cache_(cache) {}

  struct Decoded {
    std::shared_ptr<const graph::Plan> plan;
    std::shared_ptr<PlanKnowledge> knowledge;
    graph::SharedNumbers numbers;
    std::shared_ptr<RunTime> run_time;
    bool has_inline_uploads = false;
  };
  // The plan and the numbers of a job. Nothing: the checksum does not fit, so the two ends predict
  // differently; the caller forgets all slots and resynchronises. An Error is a broken rule.
  Result<std::optional<Decoded>> decode(const codec::Step& step);
  Result<std::optional<Decoded>> decode(const codec::Job& job);

  void forget();
  // Packs what is kept for prediction, until its next use.
  void compact();

  [[nodiscard]] uint64_t plans_received() const { return plans_received_; }
  [[nodiscard]] size_t bytes() const;  // Of this session alone; shared plans do not count.

 private:
  struct Slot {
    std::unique_ptr<graph::NumbersCoder> coder;
    std::shared_ptr<PlanKnowledge> knowledge;
    std::shared_ptr<RunTime> run_time;
    bool has_inline_uploads = false;
    uint64_t charged_bytes = 0;  // 16 per number + the structure; what the client counts.
  };
  Result<Slot*> find(uint16_t index);
  Result<> overwrite(uint16_t index, const codec::Job& job);
  static Result<std::optional<Decoded>> predict(Slot& slot, graph::ByteSpan patch,
                                                uint32_t checksum);

  PlanCache& cache_;
  std::vector<Slot> slots_;  // Grows to the highest index that was used.
  uint64_t charged_bytes_ = 0;
  uint64_t plans_received_ = 0;
};

}  // namespace djinn::server
