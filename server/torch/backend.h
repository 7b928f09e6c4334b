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
#include "server/memory/tiers.h"
#include "server/torch/operator_table.h"

namespace djinn::server {

enum class Fill : uint8_t { kZero, kNone };  // kNone: every byte is written before any is read.

// A tensor's elements in row-major order in host memory.
struct HostCopy {
  at::Tensor tensor;  // Of a device that works on its own: filled when `after(kCopies)` says so.
  // Not null: the bytes that are being copied. Nobody may write them until the copy has ended.
  std::shared_ptr<const c10::Storage> source;
};

// What a buffer became on the device: a storage that is the buffer's memory, or a home from which
// its bytes come to the device when they are used. Neither: the device cannot use it as it is.
struct Adopted {
  c10::Storage storage;
  TieredBufferPtr home;
};

class Backend {
 public:
  virtual ~Backend() = default;
  [[nodiscard]] virtual c10::Device device() const = 0;
  [[nodiscard]] virtual DeviceMemory memory() const = 0;
  // Throws if there is no memory.
  [[nodiscard]] virtual std::shared_ptr<Buffer> stage(uint64_t bytes, const Owner& owner) = 0;
  // Replaces operators that LibTorch cannot run on this device; null: it can.
  [[nodiscard]] virtual Kernel kernel_of(std::string_view name) const = 0;
  // Its kernels check indices on the device, and a wrong one ends the device for everybody: they
  // are checked before.
  [[nodiscard]] virtual bool dies_of_bad_indices() const { return false; }
  [[nodiscard]] virtual bool works_on_its_own() const { return false; }
  // As Device's.
  [[nodiscard]] virtual bool charges_tenants() const { return true; }
  // May be called when memory is short (see Device).
  // NOLINTNEXTLINE(performance-unnecessary-value-param): who overrides it keeps it.
  virtual void set_reclaim(Device::Reclaim /*reclaim*/) {}

  // Runs `body` with the thread prepared for this owner's work on this device. An Error: the
  // device cannot be used (any more), and nothing ran.
  virtual Result<> enter(const Owner& owner, const std::function<void()>& body) = 0;
  // Inside `enter`: from here on the thread allocates for this one; an empty Owner is nobody.
  virtual void act_for(const Owner& /*owner*/) {}
  // A session ended or rests: memory that is kept for reuse may go.
  virtual void trim() = 0;

  // Not null: storages of kTieredBytesMin or more live in its tiers and may leave the device
  // between operators.
  [[nodiscard]] virtual Tiers* tiers() { return nullptr; }
  // With tiers. The storage's memory, for the tiers to own; the storage is an alias from then on.
  // Null: it is not this backend's.
  [[nodiscard]] virtual void* disown(const c10::Storage& /*storage*/) { return nullptr; }
  // A storage over memory of the device that somebody else owns.
  [[nodiscard]] virtual c10::Storage alias(void* /*memory*/, uint64_t /*bytes*/) { return {}; }

  // Throws c10::OutOfMemoryError; its text names what was asked and what is free.
  [[nodiscard]] virtual c10::Storage allocate(uint64_t bytes, Fill fill) = 0;
  [[nodiscard]] virtual Adopted adopt(const std::shared_ptr<Buffer>& buffer) = 0;
  // Inside `enter`. Copies to the front of the storage; `from` may change when it returns.
  virtual void write(const c10::Storage& to, Bytes from) = 0;
  virtual void copy(const c10::Storage& to, const c10::Storage& from, uint64_t bytes) = 0;
  // The same memory where that is possible.
  [[nodiscard]] virtual HostCopy to_host(const at::Tensor& tensor) = 0;

  // Runs `done` in the order of these calls, at once or on a thread of the device: behind what was
  // handed over before, or also behind every copy that to_host began. It must not throw.
  enum class After : uint8_t { kEarlierCalls, kCopies };
  using Done = std::function<void(const Error* lost)>;  // Not null: why the copies were not made.
  virtual void after(After what, Done done) = 0;

  [[nodiscard]] virtual at::Generator new_generator() = 0;
  // The one that operators without a generator argument draw from. Process-wide: see random.h.
  [[nodiscard]] virtual const at::Generator& default_generator() = 0;
};

}  // namespace djinn::server
