// SPDX-License-Identifier: Apache-2.0
// Steps: what a random program may do, one function per kind of step.
// Threading: one thread.
#pragma once

#include <span>

#include "tests/integration/random_program.h"

namespace djinn::testing {

struct StepKind {
  void (*step)(RandomProgram&);
  int weight;  // How often, compared with the others.
};

// Views, and new tensors. (random_views.cc)
[[nodiscard]] std::span<const StepKind> view_steps();
// Writes, resizes, arithmetic. (random_steps.cc)
[[nodiscard]] std::span<const StepKind> write_steps();

// -- for the steps

using Sizes = std::vector<int64_t>;

[[nodiscard]] std::string name(size_t i);
[[nodiscard]] std::string list(const Sizes& values);
// A dimension, now and then one that is not there.
[[nodiscard]] int64_t any_dim(RandomProgram& program, size_t i);
[[nodiscard]] int64_t size_at(RandomProgram& program, size_t i, int64_t dim);
// tN = tI.<text>
void make(RandomProgram& program, size_t i, const std::string& text,
          const std::function<at::Tensor(const at::Tensor&)>& act,
          Refusal refusal = Refusal::kAtOnce);
// tI.<text>, a write
void change(RandomProgram& program, size_t i, const std::string& text,
            const std::function<void(at::Tensor&)>& act, Refusal refusal = Refusal::kLater);

}  // namespace djinn::testing
