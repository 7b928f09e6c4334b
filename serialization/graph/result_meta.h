// SPDX-License-Identifier: Apache-2.0
// Result metadata: what a deferred operator returned, told to the client that had to wait for it.
//
// In bytes: count:u8, then per result: 'n' none | 'z' undefined tensor | 'i' zigzag | 'd' word |
// 'T' | 'F' | 't' storage-bytes:u dtype:u8 rank:u8 size:u{rank} stride:u{rank} offset:u |
// 'l' count:u (tensors as above).
// Threading: pure functions.
#pragma once

#include <variant>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/graph/plan.h"

namespace djinn::graph {

struct TensorMeta {
  uint64_t storage_bytes = 0;
  Dtype dtype = Dtype::kFloat32;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;  // in elements, >= 0
  int64_t offset = 0;            // in elements
  auto operator<=>(const TensorMeta&) const = default;
};
struct UndefinedTensor {
  auto operator<=>(const UndefinedTensor&) const = default;
};
using ResultMeta = std::variant<std::monostate, UndefinedTensor, int64_t, double, bool, TensorMeta,
                                std::vector<TensorMeta>>;

[[nodiscard]] ByteString encode_results(const std::vector<ResultMeta>& results);
// kInvalid if malformed.
Result<std::vector<ResultMeta>> decode_results(ByteSpan bytes);

}  // namespace djinn::graph
