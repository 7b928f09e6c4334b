// SPDX-License-Identifier: Apache-2.0
// Allow-list: the names of the operators that a server runs for strangers.
//
// Why a list of what is allowed and not of what is forbidden: LibTorch registers some 3,000
// operators and gains a hundred with each version; `aten::from_file` reads any file, others take
// pointers, streams or storages from outside. The list is allowed_operators.txt, written by
// `djinn-opscan` and reviewed like code; the build puts it into the binary.
// Threading: immutable.
#pragma once

#include <span>
#include <string_view>

namespace djinn::operators {

// "aten::add.Tensor", sorted by bytes.
[[nodiscard]] std::span<const std::string_view> allowed_operators();
[[nodiscard]] bool is_allowed(std::string_view name);

}  // namespace djinn::operators
