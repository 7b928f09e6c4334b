// SPDX-License-Identifier: Apache-2.0
// A structure's bytes: refused, or a Plan that keeps every bound and in which every index leads
// somewhere.
//
// Input: one byte, 0 for a plain structure and 1 for a packed one, then its bytes.
#include "serialization/base/limits.h"
#include "serialization/graph/packing.h"
#include "serialization/graph/plan_reader.h"
#include "tests/fuzz/input.h"

namespace djinn::fuzz {
namespace {

using graph::Arg;
using graph::ArgKind;
using graph::Entry;
using graph::EntryKind;
using graph::NumberKind;
using graph::Operand;
using graph::Plan;
using graph::ResultKind;
using graph::ResultSlot;

struct Checker {
  const Plan& plan;

  void numbers(uint64_t first, uint64_t count, NumberKind kind) const {
    hold(first + count <= plan.kinds.size(), "a number is in the vector");
    for (uint64_t i = first; i < first + count; ++i) {
      hold(plan.kinds[i] == kind, "a number is of the kind its place has");
    }
  }

  void operand(uint32_t index) const {
    hold(index < plan.operands.size(), "an operand is in the table");
    const Operand& it = plan.operands[index];
    hold(it.slot < plan.slots.size(), "an operand's slot is in the table");
    hold(it.rank < kRankMax, "a rank is below its bound");
    hold(static_cast<uint8_t>(it.dtype) <= graph::kDtypeMax, "an element type is known");
    numbers(it.sizes, it.rank, NumberKind::kInt);
    if (it.strides != graph::kNone) numbers(it.strides, it.rank, NumberKind::kInt);
    if (it.offset != graph::kNone) numbers(it.offset, 1, NumberKind::kInt);
  }

  void arg(const Arg& it, bool in_list) const {
    switch (it.kind) {
      case ArgKind::kInt:
      case ArgKind::kGenerator:
        return numbers(it.first, 1, NumberKind::kInt);
      case ArgKind::kFloat:
        return numbers(it.first, 1, NumberKind::kFloat);
      case ArgKind::kComplex:
        return numbers(it.first, 2, NumberKind::kFloat);
      case ArgKind::kInts:
        return numbers(it.first, it.count, NumberKind::kInt);
      case ArgKind::kFloats:
        return numbers(it.first, it.count, NumberKind::kFloat);
      case ArgKind::kString:
        return hold(it.first < plan.strings.size(), "a string is in the table");
      case ArgKind::kTensor:
        return operand(it.first);
      case ArgKind::kCpuScalar:
        hold(it.count == (is_complex(it.dtype) ? 2 : 1), "a complex scalar has two numbers");
        return numbers(
            it.first, it.count,
            is_floating(it.dtype) || is_complex(it.dtype) ? NumberKind::kFloat : NumberKind::kInt);
      case ArgKind::kList:
        hold(!in_list, "lists do not nest");
        hold(uint64_t{it.first} + it.count <= plan.args.size(), "a list's items are in the table");
        for (uint32_t i = 0; i < it.count; ++i) arg(plan.args[it.first + i], true);
        return;
      default:
        return;
    }
  }

  void result(const ResultSlot& it, bool deferred, bool in_list) const {
    if (it.kind == ResultKind::kTensor) operand(it.first);
    if (it.kind == ResultKind::kDeferred) {
      hold(deferred, "only a deferred operator has deferred results");
      hold(it.first < plan.slots.size(), "a deferred result's slot is in the table");
      hold(plan.slots[it.first].deferred, "... and it is a deferred one");
    }
    if (it.kind != ResultKind::kList) return;
    hold(!in_list, "lists of results do not nest");
    hold(uint64_t{it.first} + it.count <= plan.results.size(), "... and lie in the table");
    for (uint32_t i = 0; i < it.count; ++i) result(plan.results[it.first + i], deferred, true);
  }

  void op(const Entry& it) const {
    hold(it.op < plan.ops.size(), "an operator has a name");
    hold(uint64_t{it.first_arg} + it.arg_count <= plan.args.size(), "arguments are in the table");
    hold(uint64_t{it.first_result} + it.result_count <= plan.results.size(),
         "results are in the table");
    for (uint32_t i = 0; i < it.arg_count; ++i) arg(plan.args[it.first_arg + i], false);
    for (uint32_t i = 0; i < it.result_count; ++i) {
      result(plan.results[it.first_result + i], it.kind == EntryKind::kDeferredOp, false);
    }
  }

  void entries() const {
    uint32_t answers = 0;
    uint32_t uploads = 0;
    for (const Entry& it : plan.entries) {
      const bool answered = it.kind == EntryKind::kFetch || it.kind == EntryKind::kDeferredOp;
      hold(it.answer == (answered ? answers : graph::kNone), "answers are numbered in order");
      answers += answered ? 1 : 0;
      const bool staged = it.kind == EntryKind::kUpload && it.form != graph::UploadForm::kInline;
      hold(it.upload == (staged ? uploads : graph::kNone), "uploads are numbered in order");
      uploads += staged ? 1 : 0;
      switch (it.kind) {
        case EntryKind::kOp:
        case EntryKind::kDeferredOp:
          op(it);
          break;
        case EntryKind::kUpload:
          numbers(it.number, 1, NumberKind::kInt);
          operand(it.operand);
          break;
        case EntryKind::kFetch:
          operand(it.operand);
          break;
        case EntryKind::kResize:
          hold(it.operand < plan.slots.size(), "what is resized is a slot");
          numbers(it.number, 1, NumberKind::kInt);
          break;
        case EntryKind::kSeed:
          numbers(it.number, 2, NumberKind::kInt);
          break;
      }
    }
    hold(answers == plan.answers && uploads == plan.uploads, "answers and uploads are counted");
  }

  void slots() const {
    uint32_t before = 0;
    for (const graph::SlotInfo& it : plan.slots) {
      numbers(it.id, 1, NumberKind::kId);
      hold(it.id > before, "slots appear in the order of their first use");
      before = it.id;
      hold((it.bytes != graph::kNone) == (it.fresh && !it.deferred), "a new storage has a length");
      if (it.bytes != graph::kNone) numbers(it.bytes, 1, NumberKind::kInt);
      numbers(it.death, 1, NumberKind::kInt);
    }
    for (const uint32_t stray : plan.strays) numbers(stray, 1, NumberKind::kId);
  }

  void bounds() const {
    hold(plan.entries.size() <= kOpsPerPlanMax, "entries are bounded");
    hold(plan.ops.size() <= kOpsPerPlanMax, "names are bounded");
    hold(plan.slots.size() <= kSlotsPerPlanMax, "slots are bounded");
    hold(plan.kinds.size() >= 2 && plan.kinds.size() <= kNumbersPerPlanMax, "numbers are bounded");
    hold(plan.kinds[graph::kBaseNumber] == NumberKind::kInt, "the base is an integer");
  }
};

void check(graph::ByteSpan structure) {
  const auto plan = graph::read_plan(structure);
  if (!plan) {
    hold(plan.error().code == ErrorCode::kInvalid, "a structure is invalid and nothing else");
    return;
  }
  hold(plan->structure_bytes == structure.size(), "a plan knows the length of its structure");
  hold(plan->hash == graph::hash_structure(structure), "a plan knows its name");
  const Checker checker{*plan};
  checker.bounds();
  checker.entries();
  checker.slots();
  const std::vector<uint8_t> shorter(structure.begin(), structure.end() - 1);
  hold(!graph::read_plan(shorter), "a structure that lacks its last byte is refused");
  std::vector<uint8_t> longer(structure.begin(), structure.end());
  longer.push_back(0);
  hold(!graph::read_plan(longer), "a structure with a byte too many is refused");
}

}  // namespace
}  // namespace djinn::fuzz

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace djinn;  // NOLINT(google-build-using-namespace)
  fuzz::Input input(data, size);
  const bool packed = input.u8() == 1;
  const std::vector<uint8_t> bytes = input.rest();
  if (!packed) {
    fuzz::check(bytes);
    return 0;
  }
  constexpr size_t kBound = 64 << 10;
  const auto structure = graph::unpack(bytes, kBound);
  if (!structure) return 0;
  fuzz::hold(structure->size() <= kBound, "what is unpacked keeps its bound");
  fuzz::check(*structure);
  return 0;
}
