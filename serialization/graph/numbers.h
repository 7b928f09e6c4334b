// SPDX-License-Identifier: Apache-2.0
// Numbers: the vector beside a plan, and the coder that sends only what could not be predicted.
//
// Both ends keep the last two vectors of a plan and predict the next one from them: an int goes on
// as it went (2v' - v''), a float stays, and a storage's id either stays or keeps its distance to
// the first id of its flush ("the cache that the last step made"). The encoder compares the whole
// vector with the prediction and sends the differences; what is exactly as predicted costs nothing.
// Lossless by construction, and checked: each message carries `checksum` of the vector.
//
// Threading: a coder belongs to one thread; the vectors it hands out are immutable and shared.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/graph/plan.h"

namespace djinn::graph {

using Numbers = std::vector<int64_t>;
using SharedNumbers = std::shared_ptr<const Numbers>;

// A number's gap and difference in a patch take at most this.
inline constexpr size_t kPatchBytesPerNumberMax = 16;

// The low 32 bits of XXH3-64 over the vector's bytes.
[[nodiscard]] uint32_t checksum(std::span<const int64_t> numbers);

class NumbersCoder {
 public:
  explicit NumbersCoder(std::shared_ptr<const Plan> plan);

  // Appends to `patch` how `numbers` differ from the prediction (nothing if they do not) and keeps
  // them as the newest. The size must be the plan's.
  void encode(SharedNumbers numbers, ByteString& patch);

  // The other end. kInvalid if the patch is malformed; then nothing has changed. The caller
  // compares the checksum, then calls `keep` with what came back.
  Result<SharedNumbers> decode(ByteSpan patch);
  void keep(SharedNumbers numbers);

  [[nodiscard]] const Plan& plan() const { return *plan_; }
  [[nodiscard]] const std::shared_ptr<const Plan>& shared_plan() const { return plan_; }

  // Memory held for prediction. `compact` packs it until the next use (an idle session).
  [[nodiscard]] size_t bytes() const;
  void compact();

 private:
  void unpack();
  [[nodiscard]] int64_t predict_base() const;
  // Fills scratch_ given the flush's base.
  void predict(int64_t base);

  std::shared_ptr<const Plan> plan_;
  std::vector<uint32_t> floats_;  // positions
  std::vector<uint32_t> ids_;
  SharedNumbers last_;
  SharedNumbers before_;
  ByteString packed_;
  uint8_t packed_vectors_ = 0;
};

}  // namespace djinn::graph
