// SPDX-License-Identifier: Apache-2.0
// Packing: bytes made smaller with zstd, and back with a bound on what comes out.
//
// Threading: any thread; each thread keeps its own zstd context.
#pragma once

#include "serialization/base/result.h"
#include "serialization/graph/bytes.h"

namespace djinn::graph {

[[nodiscard]] ByteString pack(ByteSpan bytes);

// kInvalid if the bytes are no zstd frame, or would become longer than `length_max`.
Result<ByteString> unpack(ByteSpan packed, size_t length_max);

}  // namespace djinn::graph
