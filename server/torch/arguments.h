// SPDX-License-Identifier: Apache-2.0
// Arguments: an operator's arguments by their names in the schema, so that one check serves all its
// forms.
//
// Ownership: borrows the operator and the stack. Threading: none needed.
#pragma once

#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "server/torch/operator_table.h"

namespace djinn::server {

class Arguments {
 public:
  Arguments(const OperatorInfo& op, const Stack& stack)
      : schema_(op.handle.schema()), stack_(stack) {}

  [[nodiscard]] const c10::IValue& operator[](std::string_view name) const {
    const int index = find(name);
    TORCH_CHECK(index >= 0, "no argument ", name);
    return stack_[static_cast<size_t>(index)];
  }
  [[nodiscard]] bool has(std::string_view name) const { return find(name) >= 0; }
  // Undefined if it is none, or the operator has no such argument.
  [[nodiscard]] at::Tensor tensor(std::string_view name) const {
    const int index = find(name);
    if (index < 0 || !stack_[static_cast<size_t>(index)].isTensor()) return {};
    return stack_[static_cast<size_t>(index)].toTensor();
  }
  [[nodiscard]] std::vector<at::Tensor> tensors(std::string_view name) const {
    return (*this)[name].toTensorVector();
  }
  [[nodiscard]] std::vector<int64_t> ints(std::string_view name) const {
    return (*this)[name].toIntVector();
  }

 private:
  [[nodiscard]] int find(std::string_view name) const {
    const auto& arguments = schema_.arguments();
    for (size_t i = 0; i < arguments.size(); ++i) {
      if (arguments[i].name() == name) return static_cast<int>(i);
    }
    return -1;
  }

  const c10::FunctionSchema& schema_;
  const Stack& stack_;
};

}  // namespace djinn::server
