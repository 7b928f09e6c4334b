// SPDX-License-Identifier: Apache-2.0
// Operator table: what the executor has to know of an operator, read from its schema once.
//
// Why by name and not from the dispatcher each time: the table is also the gate. What is not on the
// allow-list, or takes an argument that no plan can hold (a storage, a stream), has no entry.
// Ownership: entries live as long as the table. Threading: any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include "operators/hidden_writes.h"
#include "serialization/base/mutex.h"
#include "serialization/base/result.h"

namespace djinn::server {

using Stack = torch::jit::Stack;

enum class ArgType : uint8_t {
  kTensor,
  kTensors,
  kOptionalTensors,
  kInt,
  kFloat,
  kBool,
  kScalar,
  kString,
  kDevice,
  kGenerator,
  kScalarType,
  kLayout,
  kMemoryFormat,
  kInts,
  kFloats,
  kBools,
  kScalars,
  kUnsupported,
};

struct ArgInfo {
  ArgType type = ArgType::kUnsupported;
  bool optional = false;  // may be None
  bool written = false;   // says the schema
  bool never = false;     // kBool: must be false
  int32_t exactly = -1;   // kBools: how many
};

enum class ReturnType : uint8_t { kTensor, kTensors, kNumber };

struct ReturnInfo {
  ReturnType type = ReturnType::kTensor;
  bool aliases = false;  // It is an argument that was written.
};

// Replaces the operator's own kernel: takes its arguments from the stack, leaves its results.
using Kernel = void (*)(Stack& stack);
struct OperatorInfo;
// Throws c10::Error if the operator's kernel would trust these arguments and should not.
using Check = void (*)(const OperatorInfo& op, const Stack& stack);

// Where an operator that multiplies rows by a matrix has its factors.
struct ProductInfo {
  uint32_t rows = 0;
  uint32_t matrix = 1;
  bool transposed = false;  // The matrix is [columns, inner].
  int32_t bias = -1;        // -1: it takes none.
  int32_t beta = -1;        // Of a sum; alpha is the next. -1: they are 1.
};

struct OperatorInfo {
  std::string name;
  c10::OperatorHandle handle;
  std::vector<ArgInfo> args = {};
  std::vector<ReturnInfo> returns = {};
  uint64_t schema_hash = 0;
  const operators::HiddenWrites* hidden = nullptr;
  Kernel kernel = nullptr;         // null: the dispatcher's
  Check check = nullptr;           // null: the kernel checks for itself
  Check index_check = nullptr;     // likewise, of values (index_checks.h)
  int32_t generator = -1;          // The argument that is a generator.
  bool default_generator = false;  // Draws from the process's generator: it takes no other.
  bool keeps_args = false;         // Its results refer to arguments: they must outlive the call.
  const ProductInfo* product = nullptr;  // null: it is none
  bool overwrites_first = false;         // Writes every element of its first argument, reads none.
};

class OperatorTable {
 public:
  // `kernel_of` names replacements for operators that this device's LibTorch cannot run.
  explicit OperatorTable(std::function<Kernel(std::string_view name)> kernel_of,
                         bool checks_indices = false)
      : kernel_of_(std::move(kernel_of)), checks_indices_(checks_indices) {}

  // kUnsupported: there is no such operator, or it cannot be called from afar. kDenied: it is not
  // on the allow-list.
  Result<const OperatorInfo*> find(const std::string& name);

 private:
  Result<std::unique_ptr<OperatorInfo>> describe(const std::string& name) const;

  std::function<Kernel(std::string_view name)> kernel_of_;
  bool checks_indices_;
  Mutex mutex_;
  std::unordered_map<std::string, std::unique_ptr<OperatorInfo>> known_ GUARDED_BY(mutex_);
};

// Checks the arguments and calls the operator for a device: they leave the stack, results come.
void call_kernel(const OperatorInfo& op, Stack& stack, c10::DispatchKeySet keys);

// Reads the schema alone, allowed or not; kUnsupported names the argument that no plan can hold.
Result<std::unique_ptr<OperatorInfo>> describe_operator(const c10::OperatorHandle& op);

}  // namespace djinn::server
