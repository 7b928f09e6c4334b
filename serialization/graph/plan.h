// SPDX-License-Identifier: Apache-2.0
// Plan: the structure of a flush - which operators run on which slots - without any number in it.
//
// Why apart from the numbers: a loop whose cache grows, whose learning rate falls or whose batch
// changes has one plan and many vectors of numbers, so the plan is sent once and named by its hash.
// A plan's bytes (its *structure*) are written while the app records (plan_writer.h) and read once
// at each end into the tables below (plan_reader.h).
//
// The structure, byte by byte ("u" is a varint, "#" says that a number is appended to the vector):
//
//   plan     = version:u8 entry* 'E' stray-count:u (#id)* op-count:u (length:u name)*
//              and behind all that, per slot in order, #death: 0, or 1 + the index of the entry
//              after which the storage dies
//   entry    = 'O' op:u arg-count:u arg* result-count:u result*   run an operator
//            | 'Y' (as 'O')                        run it, and tell the client what came out
//            | 'U' form:u8 #length operand         bytes from the client; form 0: inline in the job
//                                                  message, 1: an upload of its own, 2: an artifact
//            | 'Q' operand                         the client wants these bytes
//            | 'R' slot #bytes                     the storage becomes this long
//            | 'G' #generator #seed                a random generator is seeded
//   operand  = slot dtype:u8 shape:u8 #size{rank} [#stride{rank}] [#offset]
//              shape: rank, + 64 if strides are those of a contiguous tensor (then they are
//              absent),
//              + 128 if the offset is 0 (then it is absent)
//   slot     = index:u; an index used for the first time (they appear in order 0, 1, 2 ...) is
//              followed by '<' #id (the storage exists) or '+' #id #bytes (the storage is new)
//   arg      = 'n' none | 'T' | 'F' | 'i' #int | 'd' #float | 'c' #float #float (complex)
//            | 's' length:u text | 'v' the session's device | 'h' the host's device | 'g'
//            #generator | 't' operand | 'z' undefined tensor | 'k' dtype:u8 wrapped:u8 #value
//            (#value)     a CPU scalar; complex has two values | 'l' count:u arg* a list; lists do
//            not nest further | 'I' count:u #int*  | 'D' count:u #float*    lists of numbers
//   result   = '=' not a new tensor (an argument that was written, or a number) | 'z' undefined
//            | 't' operand | 'y' slot (only in 'Y': geometry comes with the answer)
//            | 'l' count:u result*
//
// The numbers begin with #base (the first StorageId this flush may create) and #upload (the first
// UploadId it consumes); then they follow in the order of the walk above.
// Ownership: plain values, immutable once parsed; shared between threads by shared_ptr<const Plan>.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/graph/bytes.h"

namespace djinn::graph {

inline constexpr uint8_t kStructureVersion = 1;
inline constexpr uint32_t kNone = UINT32_MAX;
inline constexpr uint32_t kBaseNumber = 0;  // numbers[kBaseNumber] is the flush's first StorageId.
inline constexpr uint32_t kUploadNumber = 1;  // numbers[kUploadNumber] is its first UploadId.

// XXH3, 128 bits. It names a plan within a session; where plans of strangers meet, it must not be
// the only name (it is not collision-resistant against an adversary).
struct PlanHash {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const PlanHash&) const = default;
};
[[nodiscard]] PlanHash hash_structure(ByteSpan structure);

// Element types on the wire; the values are ours, so they survive changes of PyTorch's enumeration.
enum class Dtype : uint8_t {
  kUint8 = 0,
  kInt8 = 1,
  kInt16 = 2,
  kInt32 = 3,
  kInt64 = 4,
  kFloat16 = 5,
  kFloat32 = 6,
  kFloat64 = 7,
  kComplex32 = 8,
  kComplex64 = 9,
  kComplex128 = 10,
  kBool = 11,
  kBfloat16 = 12,
  kUint16 = 13,
  kUint32 = 14,
  kUint64 = 15,
  kFloat8E5m2 = 16,
  kFloat8E4m3fn = 17,
};
inline constexpr uint8_t kDtypeMax = 17;
[[nodiscard]] uint32_t dtype_bytes(Dtype dtype);
[[nodiscard]] bool is_complex(Dtype dtype);
[[nodiscard]] bool is_floating(Dtype dtype);  // real floating point

// How a number is predicted (numbers.h).
enum class NumberKind : uint8_t { kInt = 0, kFloat = 1, kId = 2 };

struct Operand {
  uint32_t slot = kNone;     // kNone: an undefined tensor in a list.
  uint32_t sizes = 0;        // Index of the first size in the numbers.
  uint32_t strides = kNone;  // Index of the first stride; kNone: contiguous.
  uint32_t offset = kNone;   // Index of the offset in elements; kNone: 0.
  Dtype dtype = Dtype::kFloat32;
  uint8_t rank = 0;
};

enum class ArgKind : uint8_t {
  kNothing,
  kBool,
  kInt,
  kFloat,
  kComplex,
  kString,
  kDevice,
  kHostDevice,
  kGenerator,
  kTensor,
  kUndefined,
  kCpuScalar,
  kList,
  kInts,
  kFloats,
};

struct Arg {
  ArgKind kind = ArgKind::kNothing;
  bool flag = false;              // kBool: the value. kCpuScalar: a wrapped number.
  Dtype dtype = Dtype::kFloat32;  // kCpuScalar
  uint32_t first = 0;             // numbers / operands / strings / args (kList), by kind
  uint32_t count = 0;             // items of a list
};

enum class ResultKind : uint8_t { kNotNew, kUndefined, kTensor, kDeferred, kList };

struct ResultSlot {
  ResultKind kind = ResultKind::kNotNew;
  uint32_t first = 0;  // kTensor: operand. kDeferred: slot. kList: index into Plan::results.
  uint32_t count = 0;  // kList
};

enum class EntryKind : uint8_t { kOp, kDeferredOp, kUpload, kFetch, kResize, kSeed };
enum class UploadForm : uint8_t { kInline = 0, kStream = 1, kArtifact = 2 };

struct Entry {
  EntryKind kind = EntryKind::kOp;
  UploadForm form = UploadForm::kInline;
  uint32_t op = 0;         // kOp, kDeferredOp: index into Plan::ops
  uint32_t first_arg = 0;  // into Plan::args; args of one entry are contiguous
  uint32_t arg_count = 0;
  uint32_t first_result = 0;  // into Plan::results
  uint32_t result_count = 0;
  uint32_t operand = kNone;  // kUpload, kFetch: into Plan::operands. kResize: the slot.
  uint32_t number =
      kNone;  // kUpload: length in bytes. kResize: bytes. kSeed: generator, then seed.
  uint32_t answer = kNone;  // kFetch, kDeferredOp: 0, 1, 2 ... within the plan
  uint32_t upload = kNone;  // kUpload with form 1 or 2: 0, 1, 2 ... within the plan
};

struct SlotInfo {
  bool fresh = false;      // The plan's flush makes the storage; else it exists before.
  uint32_t id = 0;         // number
  uint32_t bytes = kNone;  // number; only if fresh and not deferred
  uint32_t death = 0;      // number
  bool deferred = false;   // Its length comes with the operator's result.
};

struct Plan {
  PlanHash hash;
  std::vector<std::string> ops;  // "aten::add.Tensor"
  std::vector<Entry> entries;
  std::vector<Arg> args;
  std::vector<ResultSlot> results;
  std::vector<Operand> operands;
  std::vector<SlotInfo> slots;
  std::vector<std::string> strings;
  std::vector<uint32_t> strays;   // numbers: ids of storages that die and are not used here
  std::vector<NumberKind> kinds;  // one per number
  uint32_t answers = 0;
  uint32_t uploads = 0;  // of form 1 and 2
  size_t structure_bytes = 0;

  // Memory this plan takes, roughly.
  [[nodiscard]] size_t bytes() const;
};

}  // namespace djinn::graph

template <>
struct std::hash<djinn::graph::PlanHash> {
  size_t operator()(const djinn::graph::PlanHash& plan) const noexcept { return plan.low; }
};
