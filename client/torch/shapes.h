// SPDX-License-Identifier: Apache-2.0
// Shapes: says what an operator will return, without running it.
//
// In this order: what was found for the same arguments before (a cache), our rule, PyTorch's Meta
// kernel. If none knows, the recorder asks the server and teaches the cache the answer.
// Threading: any thread; never call it with the recorder's lock held (Meta kernels may be
// Python's).
#pragma once

#include <xxhash.h>

#include <memory>
#include <optional>

#include "client/torch/op_info.h"
#include "client/torch/prediction.h"

namespace djinn::client {

struct ShapeKey {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const ShapeKey&) const = default;
};

// The key of an operator and its arguments: types, sizes, strides, ints; floats only where they
// decide shapes. The data of tensors never counts.
[[nodiscard]] ShapeKey shape_key(const OpInfo& op, const Stack& stack, size_t begin);

// What the operator will return, or null if only the server knows. Throws what PyTorch's shape
// checks throw. Valid for ever.
[[nodiscard]] const Prediction* predict(const OpInfo& op, const ShapeKey& key, const Stack& stack,
                                        size_t begin);

// Adds what the server answered.
const Prediction* teach(const ShapeKey& key, Prediction prediction);

}  // namespace djinn::client
