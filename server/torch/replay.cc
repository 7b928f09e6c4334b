// SPDX-License-Identifier: Apache-2.0
#include "server/torch/replay.h"

#include <utility>

#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "server/torch/lockstep.h"

namespace djinn::server {

namespace {

// Warnings are for the app, which had them when its client inferred the shapes.
class Silence final : public c10::WarningHandler {
 public:
  void process(const c10::Warning&) override {}
};

c10::WarningHandler* silence() {
  static Silence handler;
  return &handler;
}

}  // namespace

TorchReplay::~TorchReplay() {
  end_rest();
  run_.reset();
  programs_.clear();
  state_.table = {};
  state_.backend.trim();
}

bool TorchReplay::run(const Work& work, AnswerSink& sink, Chunk& chunk) {
  if (!run_ && !begin(work, sink)) return true;
  bool whole = true;
  const auto entered = state_.backend.enter(state_.owner, [&] {
    // Views, versions and gradients are the client's: here every tensor is made to be read or
    // written by kernels, and none leaves this mode.
    const c10::InferenceMode inference;
    const c10::WarningUtils::WarningHandlerGuard quiet(silence());
    whole = run_->run(chunk);
  });
  if (!entered) refuse(work, sink, entered.error(), run_->answered());
  return end_chunk(whole);
}

bool TorchReplay::end_chunk(bool whole) {
  shared_bytes_name_ = run_->shared_bytes_name();
  if (whole) run_.reset();
  publish();
  return whole;
}

void TorchReplay::run_together(Backend& backend, std::span<Member> members, Chunk& chunk,
                               LockstepState& state) {
  std::vector<Run*> runs;
  for (Member& member : members) {
    auto& replay = static_cast<TorchReplay&>(*member.replay);
    member.whole = !replay.run_ && !replay.begin(*member.work, *member.sink);
    if (!member.whole) runs.push_back(&*replay.run_);
  }
  if (runs.empty()) return;
  const auto entered = backend.enter(runs.front()->owner(), [&] {
    const c10::InferenceMode inference;
    const c10::WarningUtils::WarningHandlerGuard quiet(silence());
    Lockstep(backend, runs, state).run(chunk);
  });
  for (Member& member : members) {
    if (member.whole) continue;
    auto& replay = static_cast<TorchReplay&>(*member.replay);
    if (!entered) {
      replay.refuse(*member.work, *member.sink, entered.error(), replay.run_->answered());
    }
    member.whole = replay.end_chunk(!entered || replay.run_->finished());
  }
}

bool TorchReplay::begin(const Work& work, AnswerSink& sink) {
  if (work.numbers == nullptr || work.numbers->size() != work.plan->kinds.size()) {
    refuse(work, sink, {ErrorCode::kInvalid, "the numbers are not those of the plan"});
    return false;
  }
  auto program = this->program(work.plan);
  if (!program) {
    refuse(work, sink, program.error());
    return false;
  }
  end_rest();
  run_.emplace(state_, **program, work, sink);
  return true;
}

// Nothing more of the job runs; what it would have made does not exist.
void TorchReplay::refuse(const Work& work, AnswerSink& sink, const Error& error,
                         uint32_t answered) {
  state_.backend.after(Backend::After::kEarlierCalls,
                       [&sink, error, answered, answers = work.plan->answers](const Error*) {
                         for (uint32_t i = answered; i < answers; ++i) sink.answer(i, Error(error));
                         sink.ended();
                       });
}

Result<Program*> TorchReplay::program(const std::shared_ptr<const graph::Plan>& plan) {
  const auto found = by_plan_.find(plan.get());
  if (found != by_plan_.end()) {
    programs_.splice(programs_.begin(), programs_, found->second);
    return found->second->get();
  }
  DJINN_TRY(auto built, build_program(*plan, table_, state_.backend.device()));
  built->plan = plan;
  programs_.push_front(std::move(built));
  by_plan_.emplace(plan.get(), programs_.begin());
  if (programs_.size() > kPlanSlotsMax) {
    by_plan_.erase(programs_.back()->plan.get());
    programs_.pop_back();
  }
  return programs_.front().get();
}

void TorchReplay::shrink() {
  if (run_) return;  // It needs its program still.
  by_plan_.clear();
  programs_.clear();
  state_.table.shrink();
  state_.backend.trim();
}

void TorchReplay::rest(uint64_t resume_ns) {
  Tiers* const tiers = state_.backend.tiers();
  if (tiers == nullptr) return;
  Tiers::SessionState state;
  state_.table.for_each([&](const Cell& cell) {
    if (cell.home != nullptr) (cell.shared ? state.shared : state.own).push_back(cell.home.get());
  });
  tiers->rest(state_.owner.session, state, resume_ns);
  rests_ = true;
}

uint64_t TorchReplay::move_ns(const Work& work) {
  Tiers* const tiers = state_.backend.tiers();
  if (run_) return run_->move_ns();  // It has given way; `work` is its job.
  if (tiers == nullptr || work.numbers->size() != work.plan->kinds.size()) return 0;
  std::vector<const TieredBuffer*> buffers;
  for (const graph::SlotInfo& info : work.plan->slots) {
    if (info.fresh) continue;
    const Cell* const cell = state_.table.find(static_cast<uint64_t>((*work.numbers)[info.id]));
    if (cell != nullptr && cell->home != nullptr) buffers.push_back(cell->home.get());
  }
  return tiers->load_ns(buffers);
}

void TorchReplay::end_rest() {
  if (std::exchange(rests_, false)) state_.backend.tiers()->end_rest(state_.owner.session);
}

void TorchReplay::publish() {
  const StorageTotals& totals = state_.table.totals();
  const ReplayStats stats{.ops_executed = state_.ops_executed,
                          .ops_failed = state_.ops_failed,
                          .storages = totals.storages,
                          .storage_bytes = totals.bytes,
                          .shared_bytes = totals.shared_bytes,
                          .relayouts = state_.relayouts};
  const MutexLock lock(mutex_);
  stats_ = stats;
}

ReplayStats TorchReplay::stats() const {
  const MutexLock lock(mutex_);
  return stats_;
}

}  // namespace djinn::server
