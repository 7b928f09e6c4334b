// SPDX-License-Identifier: Apache-2.0
// Whole composites: operators that LibTorch would decompose on any device, and that travel as one
// where nobody asks for gradients.
//
// Why: `linear` is two operators, `rms_norm` seven; saying them costs more than one word for all,
// and the server's LibTorch decomposes them itself, into the same kernels in the same order. With
// gradients the decomposition is recorded, as autograd has no formula for the whole.
// Threading: immutable.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace djinn::operators {

inline constexpr std::array<std::string_view, 3> kWholeComposites{"linear", "matmul", "rms_norm"};

// `name` without the namespace.
[[nodiscard]] constexpr bool is_whole_composite(std::string_view name) {
  return std::ranges::find(kWholeComposites, name) != kWholeComposites.end();
}

}  // namespace djinn::operators
