// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cpu_backend.h"

#include <cstring>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

#include "server/torch/cpu_memory.h"
#include "server/torch/special_kernels.h"

namespace djinn::server {
namespace {

constexpr uintptr_t kAlignment = 64;  // What kernels get locally: other alignments change bits.

class CpuBuffer final : public Buffer {
 public:
  CpuBuffer(c10::DataPtr memory, uint64_t bytes) : memory_(std::move(memory)), bytes_(bytes) {}
  std::span<std::byte> bytes() override {
    return {static_cast<std::byte*>(memory_.mutable_get()), bytes_};
  }

 private:
  c10::DataPtr memory_;
  size_t bytes_;
};

void drop_buffer(void* context) { delete static_cast<std::shared_ptr<Buffer>*>(context); }

class CpuBackend final : public Backend {
 public:
  CpuBackend(uint64_t budget_bytes, int threads) : threads_(threads) {
    CpuMemory::instance().set_budget(budget_bytes);
  }

  c10::Device device() const override { return c10::Device(c10::kCPU); }
  DeviceMemory memory() const override { return CpuMemory::instance().usage(); }

  std::shared_ptr<Buffer> stage(uint64_t bytes) override {
    return std::make_shared<CpuBuffer>(CpuMemory::instance().allocate_raw(bytes), bytes);
  }

  Kernel kernel_of(std::string_view name) const override { return cpu_kernel_of(name); }

  Result<> enter(SessionId session, const std::function<void()>& body) override {
    thread_local int threads = 0;  // OpenMP keeps this per thread.
    if (threads != threads_) at::set_num_threads(threads_);
    threads = threads_;
    struct Owner {
      explicit Owner(SessionId id) { CpuMemory::set_owner(id.value); }
      ~Owner() { CpuMemory::set_owner(0); }
    } const owner(session);
    body();
    return Unit{};
  }
  void trim() override { CpuMemory::instance().trim(); }

  c10::Storage allocate(uint64_t bytes, Fill fill) override {
    CpuMemory& memory = CpuMemory::instance();
    return {c10::Storage::use_byte_size_t(), static_cast<size_t>(bytes),
            fill == Fill::kZero ? memory.allocate_zeroed(bytes) : memory.allocate_raw(bytes),
            nullptr, false};
  }

  c10::Storage adopt(const std::shared_ptr<Buffer>& buffer) override {
    const std::span<std::byte> bytes = buffer->bytes();
    if (reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment != 0) return {};
    c10::DataPtr memory(bytes.data(), new std::shared_ptr<Buffer>(buffer), &drop_buffer, device());
    return {c10::Storage::use_byte_size_t(), bytes.size(), std::move(memory), nullptr, false};
  }

  void write(const c10::Storage& to, Bytes from) override {
    if (!from.empty()) std::memcpy(to.mutable_data(), from.data(), from.size());
  }
  void copy(const c10::Storage& to, const c10::Storage& from, uint64_t bytes) override {
    if (bytes != 0) std::memcpy(to.mutable_data(), from.data(), bytes);
  }
  HostCopy to_host(const at::Tensor& tensor) override {
    return {.tensor = tensor.contiguous(), .source = nullptr};
  }
  void after(After /*what*/, Done done) override { done(nullptr); }

  at::Generator new_generator() override { return at::detail::createCPUGenerator(); }
  const at::Generator& default_generator() override { return at::detail::getDefaultCPUGenerator(); }

 private:
  int threads_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(uint64_t memory_budget_bytes, int threads) {
  return std::make_unique<CpuBackend>(memory_budget_bytes, threads);
}

}  // namespace djinn::server
