// SPDX-License-Identifier: Apache-2.0
// Lockstep: runs of one plan that advance together, entry by entry, and multiply together what they
// multiply by the same bytes.
//
// A step that makes one token reads every weight to multiply it by one row: K sessions read them K
// times. Here the rows of all lie below one another and the weights are read once. Everything else
// runs for each by itself, with its own memory and errors. A product that cannot run for several
// (another shape, no room) runs for each alone, and so gives the results and errors it always does.
// What is joined and multiplied is nobody's memory until each has its part of the result.
// Ownership: borrows everything. Threading: one thread, inside Backend::enter.
#pragma once

#include <atomic>
#include <span>
#include <vector>

#include "server/torch/packed_matrices.h"
#include "server/torch/run.h"

namespace djinn::server {

inline constexpr int64_t kProductRowsMax = 8;  // of one run; more of them gain nothing

// What a device keeps of it between groups.
struct LockstepState {
  explicit LockstepState(const Backend& backend) : packed(backend) {}
  PackedMatrices packed;
  std::atomic<uint64_t> operators = 0;  // that ran once for several runs
};

class Lockstep {
 public:
  // All begin, or stand before the same entry.
  Lockstep(Backend& backend, std::span<Run* const> runs, LockstepState& state)
      : backend_(backend), runs_(runs.begin(), runs.end()), state_(state) {}
  // Until all are finished or the chunk is over; each Run knows whether it is finished.
  void run(Chunk& chunk);

 private:
  struct Part {
    Run* run = nullptr;
    Product product;
    int64_t rows = 0;
  };
  // What it throws ends that run.
  template <typename Body>
  void each(const Body& body);
  template <typename Body>
  void guarded(Run& run, const Body& body);
  void entry();
  // Those whose next entry multiplies by the same bytes, if there are two.
  [[nodiscard]] bool collect();
  void multiply();
  [[nodiscard]] at::Tensor product();
  void hand_out(const at::Tensor& made);

  Backend& backend_;
  std::vector<Run*> runs_;  // that are not finished
  LockstepState& state_;
  std::vector<Part> parts_;
};

}  // namespace djinn::server
