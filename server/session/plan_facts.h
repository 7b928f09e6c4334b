// SPDX-License-Identifier: Apache-2.0
// PlanFacts: what the structure of a plan, and the numbers of a job of it, say before it runs: what
// kind of work it is, and how much.
//
// Nothing is known of models: a plan with backward operators trains; one whose matrix products have
// one row or a few, and which extends something that was there, decodes; many rows are a prefill.
// An app that says its phase (serialization/base/hints.h) knows better, and is believed.
// Threading: made once; immutable.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "serialization/base/hints.h"
#include "serialization/graph/plan.h"

namespace djinn::server {

inline constexpr uint64_t kDecodeRowsMax = 4;  // of a step that makes one token for each of a few

// More elements or operations are not counted, so that nothing overflows; a size below zero is as
// many.
inline constexpr uint64_t kManyElements = uint64_t{1} << 48;

// How much a job does; at most kManyElements of each.
struct JobSize {
  uint64_t elements = 0;  // of all operands
  uint64_t flops = 0;     // of its matrix products and convolutions
  uint64_t rows = 0;      // of the left side of its largest product with a matrix; 0: it has none
  // One number for both: what an element costs, roughly; only ratios of it mean anything.
  [[nodiscard]] uint64_t units() const { return elements + flops / 32; }
};

[[nodiscard]] inline bool is_operator(const graph::Entry& entry) {
  return entry.kind == graph::EntryKind::kOp || entry.kind == graph::EntryKind::kDeferredOp;
}

class PlanFacts {
 public:
  explicit PlanFacts(const graph::Plan& plan);

  [[nodiscard]] JobSize size(const graph::Plan& plan, std::span<const int64_t> numbers) const;
  [[nodiscard]] JobPhase phase(const JobSize& size) const;
  // That it runs.
  [[nodiscard]] uint64_t operators() const { return operators_; }

 private:
  struct Product {
    uint32_t left = 0;  // operands
    uint32_t right = 0;
    bool transposed = false;  // The right side is [columns, inner].
    bool convolves = false;   // The right side is [outputs, ...]; `left` is the result.
    bool batched = false;
  };
  void note_product(const graph::Plan& plan, const graph::Entry& entry);

  std::vector<Product> products_;
  uint64_t operators_ = 0;
  bool trains_ = false;
  bool attends_ = false;  // It extends a cache or attends.
};

}  // namespace djinn::server
