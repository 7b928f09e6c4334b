// SPDX-License-Identifier: Apache-2.0
#include "serialization/graph/plan_reader.h"

#include "serialization/base/limits.h"

namespace djinn::graph {
namespace {

class Reader {
 public:
  explicit Reader(ByteSpan structure) : in_(structure) {
    plan_.hash = hash_structure(structure);
    plan_.structure_bytes = structure.size();
  }

  Result<Plan> read() {
    if (in_.u8() != kStructureVersion) fail("unknown version of the structure");
    numbers(1, NumberKind::kId);   // #base: kind kId only says "a storage's id"
    numbers(1, NumberKind::kInt);  // #upload
    plan_.kinds[kBaseNumber] = NumberKind::kInt;
    while (good()) {
      const uint8_t tag = in_.u8();
      if (tag == 'E') break;
      entry(tag);
    }
    strays();
    names();
    for (SlotInfo& slot : plan_.slots) slot.death = numbers(1, NumberKind::kInt);
    if (good() && !in_.at_end()) fail("bytes behind the end");
    for (const Entry& each : plan_.entries) {
      const bool runs = each.kind == EntryKind::kOp || each.kind == EntryKind::kDeferredOp;
      if (runs && each.op >= plan_.ops.size()) fail("an operator without a name");
    }
    if (!good()) {
      return Error{ErrorCode::kInvalid, "plan: " + (problem_.empty() ? "cut short" : problem_) +
                                            " at byte " + std::to_string(problem_at_)};
    }
    return std::move(plan_);
  }

 private:
  [[nodiscard]] bool good() {
    if (!in_.ok() && problem_at_ == 0) problem_at_ = in_.position();
    return in_.ok() && problem_.empty();
  }

  uint32_t fail(const char* problem) {
    if (problem_.empty() && in_.ok()) {
      problem_ = problem;
      problem_at_ = in_.position();
    }
    return 0;
  }

  uint32_t bounded(uint64_t limit, const char* problem) {
    const uint64_t value = in_.varint();
    return value <= limit ? static_cast<uint32_t>(value) : fail(problem);
  }

  uint32_t numbers(uint32_t count, NumberKind kind) {
    const auto first = static_cast<uint32_t>(plan_.kinds.size());
    if (plan_.kinds.size() + count > kNumbersPerPlanMax) return fail("too many numbers");
    plan_.kinds.resize(plan_.kinds.size() + count, kind);
    return first;
  }

  Dtype dtype() {
    const uint8_t value = in_.u8();
    if (value > kDtypeMax) fail("unknown element type");
    return value > kDtypeMax ? Dtype::kUint8 : static_cast<Dtype>(value);
  }

  uint32_t slot(bool deferred) {
    const auto index = bounded(kSlotsPerPlanMax - 1, "too many slots");
    if (index < plan_.slots.size()) {
      if (deferred) return fail("a deferred result in a slot that is in use");
      return index;
    }
    if (index > plan_.slots.size()) return fail("a slot out of order");
    SlotInfo info;
    const uint8_t tag = in_.u8();
    if (tag != '<' && tag != '+') return fail("a slot is neither new nor old");
    if (deferred && tag != '+') return fail("a deferred result in a storage that exists");
    info.fresh = tag == '+';
    info.deferred = deferred;
    info.id = numbers(1, NumberKind::kId);
    if (info.fresh && !deferred) info.bytes = numbers(1, NumberKind::kInt);
    plan_.slots.push_back(info);
    return index;
  }

  Operand operand() {
    Operand out;
    out.slot = slot(false);
    out.dtype = dtype();
    const uint8_t shape = in_.u8();
    out.rank = shape & 63;
    out.sizes = numbers(out.rank, NumberKind::kInt);
    if ((shape & 64) == 0) out.strides = numbers(out.rank, NumberKind::kInt);
    if ((shape & 128) == 0) out.offset = numbers(1, NumberKind::kInt);
    return out;
  }

  uint32_t add_operand() {
    const Operand out = operand();
    plan_.operands.push_back(out);
    return static_cast<uint32_t>(plan_.operands.size() - 1);
  }

  std::string text() {
    const auto length = bounded(kListItemsMax, "a string is too long");
    return std::string(in_.text(length));
  }

  void list_of_numbers(Arg& arg, ArgKind kind, NumberKind number) {
    arg.kind = kind;
    arg.count = bounded(kListItemsMax, "a list is too long");
    arg.first = numbers(good() ? arg.count : 0, number);
  }

  void cpu_scalar(Arg& arg) {
    arg.kind = ArgKind::kCpuScalar;
    arg.dtype = dtype();
    arg.flag = in_.u8() != 0;
    const bool integral = !is_floating(arg.dtype) && !is_complex(arg.dtype);
    arg.count = is_complex(arg.dtype) ? 2 : 1;
    arg.first = numbers(arg.count, integral ? NumberKind::kInt : NumberKind::kFloat);
  }

  // Reads one argument; a list's items go to the end of plan_.args, after its own place.
  void arg(size_t place, bool in_list) {
    Arg out;
    switch (in_.u8()) {
      case 'n':
        break;
      case 'T':
        out.kind = ArgKind::kBool;
        out.flag = true;
        break;
      case 'F':
        out.kind = ArgKind::kBool;
        break;
      case 'i':
        out.kind = ArgKind::kInt;
        out.first = numbers(1, NumberKind::kInt);
        break;
      case 'd':
        out.kind = ArgKind::kFloat;
        out.first = numbers(1, NumberKind::kFloat);
        break;
      case 'c':
        out.kind = ArgKind::kComplex;
        out.first = numbers(2, NumberKind::kFloat);
        break;
      case 's':
        out.kind = ArgKind::kString;
        out.first = static_cast<uint32_t>(plan_.strings.size());
        plan_.strings.push_back(text());
        break;
      case 'v':
        out.kind = ArgKind::kDevice;
        break;
      case 'h':
        out.kind = ArgKind::kHostDevice;
        break;
      case 'g':
        out.kind = ArgKind::kGenerator;
        out.first = numbers(1, NumberKind::kInt);
        break;
      case 't':
        out.kind = ArgKind::kTensor;
        out.first = add_operand();
        break;
      case 'z':
        out.kind = ArgKind::kUndefined;
        break;
      case 'k':
        cpu_scalar(out);
        break;
      case 'I':
        list_of_numbers(out, ArgKind::kInts, NumberKind::kInt);
        break;
      case 'D':
        list_of_numbers(out, ArgKind::kFloats, NumberKind::kFloat);
        break;
      case 'l':
        list(out, in_list);
        break;
      default:
        fail("unknown kind of argument");
    }
    plan_.args[place] = out;
  }

  void list(Arg& out, bool in_list) {
    if (in_list) {
      fail("a list in a list");
      return;
    }
    out.kind = ArgKind::kList;
    out.count = bounded(kListItemsMax, "a list is too long");
    out.first = static_cast<uint32_t>(plan_.args.size());
    if (!good()) return;
    grow_args(out.count);
    for (uint32_t i = 0; i < out.count && good(); ++i) arg(out.first + i, true);
  }

  // A list may claim many items and hold none: the bytes that are left bound it (an item is a
  // byte).
  void grow_args(uint32_t count) {
    if (plan_.args.size() + count > size_t{kNumbersPerPlanMax}) {
      fail("too many arguments");
      return;
    }
    plan_.args.resize(plan_.args.size() + count);
  }

  void result(size_t place, bool deferred, bool in_list) {
    ResultSlot out;
    switch (in_.u8()) {
      case '=':
        break;
      case 'z':
        out.kind = ResultKind::kUndefined;
        break;
      case 't':
        out.kind = ResultKind::kTensor;
        out.first = add_operand();
        break;
      case 'y':
        if (!deferred) fail("a deferred result of an operator that is not");
        out.kind = ResultKind::kDeferred;
        out.first = slot(true);
        break;
      case 'l': {
        if (in_list) fail("a list in a list");
        out.kind = ResultKind::kList;
        out.count = bounded(kListItemsMax, "a list is too long");
        out.first = static_cast<uint32_t>(plan_.results.size());
        if (!good()) break;
        grow_results(out.count);
        for (uint32_t i = 0; i < out.count && good(); ++i) result(out.first + i, deferred, true);
        break;
      }
      default:
        fail("unknown kind of result");
    }
    plan_.results[place] = out;
  }

  void grow_results(uint32_t count) {
    if (plan_.results.size() + count > size_t{kNumbersPerPlanMax}) {
      fail("too many results");
      return;
    }
    plan_.results.resize(plan_.results.size() + count);
  }

  void op(Entry& out) {
    out.op = bounded(kOpsPerPlanMax, "an operator's index is out of range");
    out.arg_count = bounded(kListItemsMax, "too many arguments");
    out.first_arg = static_cast<uint32_t>(plan_.args.size());
    if (!good()) return;
    grow_args(out.arg_count);
    for (uint32_t i = 0; i < out.arg_count && good(); ++i) arg(out.first_arg + i, false);
    out.result_count = bounded(kListItemsMax, "too many results");
    out.first_result = static_cast<uint32_t>(plan_.results.size());
    if (!good()) return;
    grow_results(out.result_count);
    const bool deferred = out.kind == EntryKind::kDeferredOp;
    for (uint32_t i = 0; i < out.result_count && good(); ++i) {
      result(out.first_result + i, deferred, false);
    }
    if (deferred) out.answer = plan_.answers++;
  }

  void upload(Entry& out) {
    out.kind = EntryKind::kUpload;
    const uint8_t form = in_.u8();
    if (form > 2) fail("unknown form of upload");
    out.form = static_cast<UploadForm>(form <= 2 ? form : 0);
    out.number = numbers(1, NumberKind::kInt);
    out.operand = add_operand();
    if (out.form != UploadForm::kInline) out.upload = plan_.uploads++;
  }

  void entry(uint8_t tag) {
    if (plan_.entries.size() >= kOpsPerPlanMax) {
      fail("too many entries");
      return;
    }
    Entry out;
    switch (tag) {
      case 'O':
        op(out);
        break;
      case 'Y':
        out.kind = EntryKind::kDeferredOp;
        op(out);
        break;
      case 'U':
        upload(out);
        break;
      case 'Q':
        out.kind = EntryKind::kFetch;
        out.operand = add_operand();
        out.answer = plan_.answers++;
        break;
      case 'R':
        out.kind = EntryKind::kResize;
        out.operand = slot(false);
        out.number = numbers(1, NumberKind::kInt);
        break;
      case 'G':
        out.kind = EntryKind::kSeed;
        out.number = numbers(2, NumberKind::kInt);
        break;
      default:
        fail("unknown entry");
    }
    plan_.entries.push_back(out);
  }

  void strays() {
    const auto count = bounded(kNumbersPerPlanMax, "too many releases");
    const auto first = numbers(good() ? count : 0, NumberKind::kId);
    for (uint32_t i = 0; i < count && good(); ++i) plan_.strays.push_back(first + i);
  }

  void names() {
    const auto count = bounded(kOpsPerPlanMax, "too many operators");
    for (uint32_t i = 0; i < count && good(); ++i) plan_.ops.push_back(text());
  }

  ByteReader in_;
  Plan plan_;
  std::string problem_;
  size_t problem_at_ = 0;
};

}  // namespace

Result<Plan> read_plan(ByteSpan structure) {
  if (structure.size() > kStructureBytesMax) {
    return Error{ErrorCode::kInvalid, "plan: longer than " + std::to_string(kStructureBytesMax)};
  }
  return Reader(structure).read();
}

}  // namespace djinn::graph
