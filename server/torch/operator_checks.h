// SPDX-License-Identifier: Apache-2.0
// Operator checks: what LibTorch's kernels believe of their arguments without looking.
//
// Some kernels are written for one caller inside LibTorch that has checked, and would read or write
// beyond a tensor's end if a stranger calls them otherwise. tests/server/torch/hostile_test.cc runs
// every allowed operator with arguments that do not belong together, and says which are missing.
// Threading: pure functions.
#pragma once

#include <span>
#include <string_view>

#include "server/torch/operator_table.h"

namespace djinn::server {

// One line of a table of checks.
struct PrefixCheck {
  std::string_view prefix;  // of the operator's name behind "aten::"
  Check check;              // null: it needs none, although a later prefix fits
};

// The check of the first prefix that fits; null if none does.
[[nodiscard]] Check find_check(std::span<const PrefixCheck> checks, std::string_view name);

// Null: the kernel checks for itself.
[[nodiscard]] Check check_of(std::string_view name);

}  // namespace djinn::server
