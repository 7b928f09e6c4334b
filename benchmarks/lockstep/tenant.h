// SPDX-License-Identifier: Apache-2.0
// Tenant: a session's text in the making, of a benchmark's sessions that decode at the same time.
// Threading: one thread each.
#pragma once

#include <cstdint>
#include <vector>

#include "examples/generation.h"

namespace djinn::benchmarks {

// Of SmolLM2's own text; its end differs from tenant to tenant, and so does its length.
[[nodiscard]] inline std::vector<int64_t> prompt_of(size_t tenant) {
  std::vector<int64_t> out{1,    4093, 198, 2683,  359, 253,  5356, 5646,
                           3365, 3511, 308, 34519, 28,  7018, 411,  407};
  for (size_t i = 0; i < tenant; ++i) {
    out.push_back(static_cast<int64_t>(100 + 37 * i + 11 * tenant));
  }
  return out;
}

struct Tenant {
  examples::Decoder decoder;
  std::vector<int64_t> ids = {};

  // So many tokens, each read when the next step is on its way.
  void turn(int tokens) {
    at::Tensor token;
    for (int i = 0; i < tokens; ++i) {
      decoder.advance();
      if (token.defined()) ids.push_back(token.item<int64_t>());
      token = decoder.token();
    }
    ids.push_back(token.item<int64_t>());
  }
};

}  // namespace djinn::benchmarks
