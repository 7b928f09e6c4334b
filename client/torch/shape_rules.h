// SPDX-License-Identifier: Apache-2.0
// Shape rules: what operators return for which PyTorch has no Meta kernel in C++.
//
// Only a shortcut: without a rule the server is asked, once per combination of shapes. Rules are
// for operators in loops whose shapes change each time. Threading: pure functions.
#pragma once

#include <string>

#include "client/torch/prediction.h"

namespace djinn::client {

// The rule for an operator, as in "aten::embedding", or null.
[[nodiscard]] Rule shape_rule(const std::string& name);

}  // namespace djinn::client
