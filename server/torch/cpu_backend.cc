// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cpu_backend.h"

#include <cstring>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include "serialization/base/limits.h"
#include "server/memory/host_tier.h"
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

// Where there is room: on the device, or on the host.
class StagedBuffer final : public Buffer {
 public:
  StagedBuffer(std::shared_ptr<Tiers> tiers, TieredBufferPtr home)
      : tiers_(std::move(tiers)), home_(std::move(home)) {}
  std::span<std::byte> bytes() override {
    return {static_cast<std::byte*>(home_->staged()), home_->bytes()};
  }
  uint64_t length() override { return home_->bytes(); }
  void drop_host() override { tiers_->let_go(*home_); }
  [[nodiscard]] TieredBuffer* home() const { return home_.get(); }

 private:
  std::shared_ptr<Tiers> tiers_;
  TieredBufferPtr home_;
};

class DeviceTier final : public TierMemory {
 public:
  void* allocate(uint64_t bytes, const Owner& owner) override {
    return CpuMemory::instance().try_allocate(bytes, owner);
  }
  void release(void* memory) override { CpuMemory::release(memory); }
  void* slide(void* memory) override { return CpuMemory::instance().slide(memory); }
  bool promise(uint64_t bytes) override { return CpuMemory::instance().promise(bytes); }
  void end_promise() override { CpuMemory::instance().end_promise(); }
  [[nodiscard]] MemoryUsage usage() const override { return CpuMemory::instance().usage(); }
};

// The thread allocates for somebody.
class Acting {
 public:
  explicit Acting(const Owner& owner) { CpuMemory::set_owner(owner); }
  ~Acting() { CpuMemory::set_owner({}); }
  Acting(const Acting&) = delete;
  Acting& operator=(const Acting&) = delete;
};

void drop_buffer(void* context) { delete static_cast<std::shared_ptr<Buffer>*>(context); }
void drop_nothing(void* /*context*/) {}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuDeviceOptions& options) : threads_(options.threads) {
    CpuMemory& memory = CpuMemory::instance();
    memory.set_budget(options.memory_budget_bytes);
    Account::set_default_limit(Tier::kDevice, options.tenant_budget_bytes);
    const bool limited = options.memory_budget_bytes > 0 || options.tenant_budget_bytes > 0 ||
                         options.tenants_limited;
    if (!limited) return;
    host_.set_budget(options.host_budget_bytes);
    tiers_ = std::make_shared<Tiers>(
        device_, host_,
        Tiers::Options{.policy = std::move(*make_policy(options.memory_policy)),
                       .link_bytes_per_second = options.link_bytes_per_second});
    memory.set_make_room([tiers = tiers_.get()](uint64_t bytes, const Account* account) {
      return tiers->make_room(bytes, account);
    });
  }
  ~CpuBackend() override {
    if (tiers_ != nullptr) CpuMemory::instance().set_make_room(nullptr);
  }
  CpuBackend(const CpuBackend&) = delete;
  CpuBackend& operator=(const CpuBackend&) = delete;

  [[nodiscard]] c10::Device device() const override { return c10::Device(c10::kCPU); }
  [[nodiscard]] DeviceMemory memory() const override {
    const MemoryUsage usage = CpuMemory::instance().usage();
    return {.budget_bytes = usage.budget, .used_bytes = usage.used, .peak_bytes = usage.peak};
  }

  std::shared_ptr<Buffer> stage(uint64_t bytes, const Owner& owner) override {
    if (tiers_ != nullptr && bytes >= kTieredBytesMin) {
      if (const auto may = tiers_->may_hold(owner.account, bytes); !may) {
        C10_THROW_ERROR(OutOfMemoryError, may.error().message);
      }
      TieredBufferPtr home = tiers_->stage(bytes, owner);
      if (home != nullptr) return std::make_shared<StagedBuffer>(tiers_, std::move(home));
    }
    const Acting acting(owner);
    return std::make_shared<CpuBuffer>(CpuMemory::instance().allocate_raw(bytes), bytes);
  }
  void set_reclaim(Device::Reclaim reclaim) override {
    if (tiers_ != nullptr) tiers_->set_reclaim(std::move(reclaim));
  }
  Tiers* tiers() override { return tiers_.get(); }
  void* disown(const c10::Storage& storage) override {
    c10::StorageImpl* const impl = storage.unsafeGetStorageImpl();
    if (impl->data_ptr().get_deleter() != CpuMemory::instance().raw_deleter()) return nullptr;
    void* const memory = impl->mutable_data();
    impl->set_data_ptr(c10::DataPtr(memory, nullptr, &drop_nothing, device())).release_context();
    return memory;
  }
  c10::Storage alias(void* memory, uint64_t bytes) override {
    return {c10::Storage::use_byte_size_t(), static_cast<size_t>(bytes),
            c10::DataPtr(memory, nullptr, &drop_nothing, device()), nullptr, false};
  }

  [[nodiscard]] Kernel kernel_of(std::string_view name) const override {
    return cpu_kernel_of(name);
  }

  Result<> enter(const Owner& owner, const std::function<void()>& body) override {
    thread_local int threads = 0;  // OpenMP keeps this per thread.
    if (threads != threads_) at::set_num_threads(threads_);
    threads = threads_;
    const Acting acting(owner);
    body();
    return Unit{};
  }
  void act_for(const Owner& owner) override { CpuMemory::set_owner(owner); }
  void trim() override { CpuMemory::instance().trim(); }

  c10::Storage allocate(uint64_t bytes, Fill fill) override {
    CpuMemory& memory = CpuMemory::instance();
    return {c10::Storage::use_byte_size_t(), static_cast<size_t>(bytes),
            fill == Fill::kZero ? memory.allocate_zeroed(bytes) : memory.allocate_raw(bytes),
            nullptr, false};
  }

  Adopted adopt(const std::shared_ptr<Buffer>& buffer) override {
    if (const auto* staged = dynamic_cast<const StagedBuffer*>(buffer.get())) {
      return {.storage = {}, .home = TieredBufferPtr(buffer, staged->home())};
    }
    const std::span<std::byte> bytes = buffer->bytes();
    if (reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment != 0) return {};
    c10::DataPtr memory(bytes.data(), new std::shared_ptr<Buffer>(buffer), &drop_buffer, device());
    return {.storage = {c10::Storage::use_byte_size_t(), bytes.size(), std::move(memory), nullptr,
                        false},
            .home = nullptr};
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
  DeviceTier device_;
  HostTier host_;
  std::shared_ptr<Tiers> tiers_;  // Null: there is no budget, so nothing has to move.
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuDeviceOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace djinn::server
