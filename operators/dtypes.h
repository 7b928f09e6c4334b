// SPDX-License-Identifier: Apache-2.0
// Dtypes: our element types on the wire and PyTorch's, each as the other.
//
// Why a table and no cast: PyTorch's enumerators have moved between versions, ours never do.
// Threading: pure functions.
#pragma once

#include <optional>

#include <c10/core/ScalarType.h>

#include "serialization/graph/plan.h"

namespace djinn::operators {

[[nodiscard]] c10::ScalarType to_torch(graph::Dtype dtype);
// Nothing: the wire has no such type (quantized, sub-byte).
[[nodiscard]] std::optional<graph::Dtype> from_torch(c10::ScalarType type);

}  // namespace djinn::operators
