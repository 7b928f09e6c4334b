// SPDX-License-Identifier: Apache-2.0
// Operator inputs: arguments for an operator guessed from its schema, so that tests can run
// hundreds of operators that nobody wrote a case for. Many guesses are refused by the operator;
// some fit. Threading: a generator belongs to one thread.
#pragma once

#include <functional>
#include <random>

#include <ATen/core/Tensor.h>

#include "server/torch/operator_table.h"

namespace djinn::server {

class OperatorInputs {
 public:
  // `make` allocates an input tensor's memory: tests map it read-only or count it.
  using Make = std::function<at::Tensor(const at::Tensor& content, bool written)>;
  OperatorInputs(uint64_t seed, Make make) : random_(seed), make_(std::move(make)) {}
  // From here on some of the guesses are what an attacker would send: shapes that do not belong
  // together, numbers and indices at the end of their range.
  void be_hostile() { hostile_ = true; }

  Stack guess(const OperatorInfo& op);

 private:
  int64_t pick(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }
  bool coin() { return pick(0, 1) == 1; }
  bool nasty() { return hostile_ && pick(0, 5) == 0; }
  int64_t nasty_integer();
  c10::IValue value(const c10::Argument& argument, const ArgInfo& info);
  at::Tensor tensor(const std::string& name, const ArgInfo& info);
  int64_t integer(const std::string& name);
  std::vector<int64_t> integers(const std::string& name, int64_t count);
  std::string text(const std::string& name);

  std::mt19937_64 random_;
  Make make_;
  bool hostile_ = false;
  std::vector<int64_t> shape_;
  at::ScalarType type_ = at::kFloat;
};

// Runs `body(i)` for i in [0, count), each in a child process of its own. Returns for each i what
// `body` returned, or minus the number of the signal that killed the child (SIGALRM after
// `seconds`).
std::vector<int> in_children(int count, unsigned seconds, const std::function<int(int)>& body);

}  // namespace djinn::server
