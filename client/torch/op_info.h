// SPDX-License-Identifier: Apache-2.0
// OpInfo: what the recorder must know of an operator, read once from its schema and tags.
//
// Ownership: one per schema, leaked with the process. Threading: immutable but for `has_meta`,
// which any thread may clear.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include <ATen/core/dispatch/Dispatcher.h>

#include "client/torch/prediction.h"
#include "serialization/graph/plan_writer.h"

namespace djinn::client {

struct OpInfo {
  explicit OpInfo(const c10::OperatorHandle& operator_handle);

  c10::OperatorHandle handle;
  graph::OpName name;
  std::vector<int> alias;  // Result r is argument alias[r]; -1: a new value.
  size_t arg_count = 0;
  size_t generator_arg = SIZE_MAX;  // The argument of type Generator?
  bool all_alias = false;           // Every result is an argument: in-place, or nothing.
  bool out_of_place = false;        // An argument is an out=.
  bool deferred = false;            // Shapes or values depend on data: tags of the operator.
  bool random = false;
  bool allowed = false;       // Servers run it (operators/allowed_operators.txt).
  bool floats_shape = false;  // Float arguments decide shapes (arange, linspace, upsample ...).
  // The Meta key, or a composite kernel, may know the shapes. Cleared when that turns out wrong.
  mutable std::atomic<bool> has_meta{false};
  Rule rule = nullptr;  // Ours (shape_rules.h).
};

// The facts of an operator. Throws c10::Error for view operators: they never reach the recorder.
[[nodiscard]] OpInfo& op_info(const c10::OperatorHandle& handle);

}  // namespace djinn::client
