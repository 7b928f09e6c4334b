// SPDX-License-Identifier: Apache-2.0
// Program: a plan made ready to run on this device - operators found, arguments checked against
// their schemas, what never changes already boxed.
//
// Building it is also the check that a plan is admissible: `Device::admit` builds one and throws it
// away. What only the numbers can tell (geometry, element types) is checked when a job runs.
// Ownership: keeps its plan. Threading: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <ATen/core/ivalue.h>

#include "serialization/graph/numbers.h"
#include "serialization/graph/plan.h"
#include "server/executor.h"
#include "server/memory/footprint.h"
#include "server/torch/cells.h"
#include "server/torch/operator_table.h"

namespace djinn::server {

// An argument that depends on numbers or storages.
enum class Source : uint8_t {
  kInt,
  kFloat,
  kComplex,
  kInts,
  kFloats,
  kScalars,
  kTensor,
  kTensors,
  kOptionalTensors,
  kCpuScalar,
  kGenerator,
  kScalarType,
  kLayout,
  kMemoryFormat,
};
struct Variable {
  Source source = Source::kInt;
  uint32_t place = 0;  // which argument
  uint32_t arg = 0;    // index into Plan::args
};

struct Range {
  uint32_t first = 0;
  uint32_t count = 0;
};

struct OpStep {
  const OperatorInfo* op = nullptr;
  Range args;                           // into Program::values
  Range variables;                      // into Program::variables
  Range operands;                       // into Program::operands: all operands among the arguments
  Range writes;                         // into Program::writes: slots whose bytes it may change
  uint32_t overwritten = graph::kNone;  // The operand that is written entirely and not read.
  bool built = false;                   // The values belong to Program::last.
  bool packed = false;                  // It fits only if all that is free is one part.
};

struct Slot {
  enum class State : uint8_t { kOurs, kTable, kLost };
  Cell* cell = nullptr;
  uint64_t id = 0;
  State state = State::kOurs;  // kOurs: made by this run. kLost: dead, or it never was.
};

struct Program {
  std::shared_ptr<const graph::Plan> plan;
  std::vector<OpStep> steps;        // one per entry; only those that run an operator are filled
  std::vector<c10::IValue> values;  // arguments, boxed
  std::vector<Variable> variables;
  std::vector<uint32_t> operands;
  std::vector<uint32_t> writes;

  std::unique_ptr<const Footprint> footprint;  // Made when a run first needs it.

  // -- kept between runs
  graph::SharedNumbers last;
  std::vector<Slot> slots;
  std::vector<Cell> cells;           // of slots that this run made
  std::vector<uint32_t> dying;       // slots in the order of their death
  std::vector<uint32_t> dying_ends;  // per entry: the end of its part of `dying`

  [[nodiscard]] std::span<const uint32_t> of(const std::vector<uint32_t>& list, Range range) const {
    return std::span(list).subspan(range.first, range.count);
  }
};

// kUnsupported, kDenied or kInvalid name the operator.
Result<std::unique_ptr<Program>> build_program(const graph::Plan& plan, OperatorTable& table,
                                               c10::Device device);

}  // namespace djinn::server
