// SPDX-License-Identifier: Apache-2.0
// Backend: the few things in which one device differs from another for a replay on ATen.
//
// Ownership: outlives every replay on it. Threading: any thread, if not said otherwise.
#pragma once

#include <functional>
#include <memory>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

#include "server/executor.h"
#include "server/torch/operator_table.h"

namespace djinn::server {

enum class Fill : uint8_t { kZero, kNone };  // kNone: every byte is written before any is read.

class Backend {
 public:
  virtual ~Backend() = default;
  [[nodiscard]] virtual c10::Device device() const = 0;
  [[nodiscard]] virtual DeviceMemory memory() const = 0;
  [[nodiscard]] virtual Result<std::shared_ptr<Buffer>> stage(uint64_t bytes) = 0;
  // Replaces operators that LibTorch cannot run on this device; null: it can.
  [[nodiscard]] virtual Kernel kernel_of(std::string_view name) const = 0;

  // Runs `body` with the thread prepared for this session's work on this device.
  virtual void enter(SessionId session, const std::function<void()>& body) = 0;
  // A session ended or rests: memory that is kept for reuse may go.
  virtual void trim() = 0;

  // Throws c10::OutOfMemoryError; its text names what was asked and what is free.
  [[nodiscard]] virtual c10::Storage allocate(uint64_t bytes, Fill fill) = 0;
  // A storage that is the buffer's memory; a null one if this device cannot use it as it is.
  [[nodiscard]] virtual c10::Storage adopt(const std::shared_ptr<Buffer>& buffer) = 0;
  // Inside `enter`. Copies to the front of the storage.
  virtual void write(const c10::Storage& to, Bytes from) = 0;
  virtual void copy(const c10::Storage& to, const c10::Storage& from, uint64_t bytes) = 0;
  // The tensor's elements in row-major order in host memory; the same memory where that is
  // possible.
  [[nodiscard]] virtual at::Tensor to_host(const at::Tensor& tensor) = 0;

  [[nodiscard]] virtual at::Generator new_generator() = 0;
  // The one that operators without a generator argument draw from. Process-wide: see random.h.
  [[nodiscard]] virtual const at::Generator& default_generator() = 0;
};

}  // namespace djinn::server
