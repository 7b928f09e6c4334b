// SPDX-License-Identifier: Apache-2.0
// Torch replay: a session on a device - its storages, generators and programs.
//
// Ownership: borrows the backend and the operator table from the device. Threading: Replay's.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>

#include "serialization/base/mutex.h"
#include "server/executor.h"
#include "server/torch/lockstep.h"
#include "server/torch/run.h"

namespace djinn::server {

class TorchReplay final : public Replay {
 public:
  TorchReplay(const Owner& owner, Backend& backend, OperatorTable& table)
      : state_(owner, backend), table_(table) {}
  ~TorchReplay() override;
  [[nodiscard]] bool run(const Work& work, AnswerSink& sink, Chunk& chunk) override;
  void shrink() override;
  void rest(uint64_t resume_ns) override;
  [[nodiscard]] uint64_t move_ns(const Work& work) override;
  [[nodiscard]] uint64_t shared_bytes_name() const override { return shared_bytes_name_; }
  [[nodiscard]] ReplayStats stats() const override;

  // Device::run_together, of replays on this backend.
  static void run_together(Backend& backend, std::span<Member> members, Chunk& chunk,
                           LockstepState& state);

 private:
  using Programs = std::list<std::unique_ptr<Program>>;  // used last in front

  // False: the job was refused.
  bool begin(const Work& work, AnswerSink& sink);
  Result<Program*> program(const std::shared_ptr<const graph::Plan>& plan);
  // The chunk is over; true: the job has ended.
  bool end_chunk(bool whole);
  void refuse(const Work& work, AnswerSink& sink, const Error& error, uint32_t answered = 0);
  void publish();
  void end_rest();

  SessionState state_;
  OperatorTable& table_;
  bool rests_ = false;
  uint64_t shared_bytes_name_ = 0;
  Programs programs_;
  std::unordered_map<const graph::Plan*, Programs::iterator> by_plan_;
  std::optional<Run> run_;  // The job that runs, or has given way.
  mutable Mutex mutex_;
  ReplayStats stats_ GUARDED_BY(mutex_);
};

}  // namespace djinn::server
