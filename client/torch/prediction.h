// SPDX-License-Identifier: Apache-2.0
// Prediction: what an operator will return - geometry and types, no bytes.
//
// Threading: plain values.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/stack.h>
#include <c10/util/SmallVector.h>

namespace djinn::client {

using Stack = torch::jit::Stack;

struct PredictedResult {
  enum class Kind : uint8_t { kTensor, kUndefined, kInt, kList };
  Kind kind = Kind::kTensor;
  c10::ScalarType type = c10::kFloat;
  c10::SmallVector<int64_t, 5> sizes;
  c10::SmallVector<int64_t, 5> strides;
  size_t storage_bytes = 0;  // 0: as many as the geometry spans
  int64_t value = 0;         // kInt: the value. kList: how many of the next results are its items.
};

// One per return of the operator; a list's items follow it.
using Prediction = std::vector<PredictedResult>;

// Says what the operator will return for these arguments (the last ones of the stack, from
// `begin`), or false if it does not know this case.
using Rule = bool (*)(const Stack& stack, size_t begin, Prediction& out);

}  // namespace djinn::client
