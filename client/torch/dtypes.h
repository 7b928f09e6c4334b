// SPDX-License-Identifier: Apache-2.0
// Element types at the door: what does not travel is PyTorch's error here.
#pragma once

#include <c10/util/Exception.h>

#include "operators/dtypes.h"

namespace djinn::client {

[[nodiscard]] inline graph::Dtype to_wire(c10::ScalarType type) {
  const auto dtype = operators::from_torch(type);
  TORCH_CHECK(dtype.has_value(), "djinn: element type ", type,
              " does not exist on the device djinn");
  return *dtype;
}
[[nodiscard]] inline c10::ScalarType from_wire(graph::Dtype dtype) {
  return operators::to_torch(dtype);
}

}  // namespace djinn::client
