// SPDX-License-Identifier: Apache-2.0
// Programs: what LibTorch users write, as functions of the device. Each is run on the CPU and on
// djinn from the same seed, and must give the same.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <ATen/ATen.h>

namespace djinn::testing {

struct Program {
  std::string name;
  std::function<std::vector<at::Tensor>(at::Device)> run;
  double tolerance = 0;    // 0: equal to the last bit
  bool is_random = false;  // Draws numbers on the device, and a GPU draws others than the CPU.
};
inline void PrintTo(const Program& program, std::ostream* out) { *out << program.name; }  // NOLINT

// Modules of torch::nn, forward and backward.
[[nodiscard]] std::vector<Program> module_programs();
// Tensor operators, views, in-place, autograd without modules.
[[nodiscard]] std::vector<Program> tensor_programs();
// Loops with optimisers, saving and loading.
[[nodiscard]] std::vector<Program> training_programs();

}  // namespace djinn::testing
