// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cuda/cuda_backend.h"

#include <cstring>
#include <string>

#include <ATen/ATen.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

#include "server/torch/cuda/completions.h"
#include "server/torch/cuda/cuda_buffer.h"
#include "server/torch/cuda/device_memory.h"
#include "server/torch/cuda/loss.h"
#include "server/torch/cuda/streams.h"
#include "server/torch/special_kernels.h"

namespace djinn::server::cuda {
namespace {

std::string device_name(int index) { return std::string("cuda:") + std::to_string(index); }

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

void drop_buffer(void* context) { delete static_cast<std::shared_ptr<Buffer>*>(context); }

c10::Storage storage(c10::DataPtr memory, uint64_t bytes) {
  return {c10::Storage::use_byte_size_t(), static_cast<size_t>(bytes), std::move(memory), nullptr,
          false};
}

c10::DataPtr pinned(uint64_t bytes) {
  return at::getHostAllocator(at::kCUDA)->allocate(static_cast<size_t>(bytes));
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const PluginOptions& options)
      : device_(c10::kCUDA, static_cast<c10::DeviceIndex>(options.device_index)),
        budget_bytes_(options.memory_budget_bytes),
        loss_(device_name(options.device_index)),
        streams_(device_.index()),
        completions_(device_.index(), loss_) {
    start_device_memory(device_.index(), budget_bytes_);
  }

  [[nodiscard]] c10::Device device() const override { return device_; }
  [[nodiscard]] DeviceMemory memory() const override {
    return device_memory(device_.index(), budget_bytes_);
  }
  std::shared_ptr<Buffer> stage(uint64_t bytes, const Owner& /*owner*/) override {
    return std::make_shared<CudaBuffer>(pinned(bytes), bytes);
  }
  [[nodiscard]] Kernel kernel_of(std::string_view name) const override {
    return device_kernel_of(name);
  }
  [[nodiscard]] bool dies_of_bad_indices() const override { return true; }
  [[nodiscard]] bool works_on_its_own() const override { return true; }
  [[nodiscard]] bool charges_tenants() const override { return false; }
  void set_reclaim(Device::Reclaim reclaim) override {
    const std::scoped_lock lock(reclaim_mutex_);
    reclaim_ = std::move(reclaim);
  }

  Result<> enter(const Owner& owner, const std::function<void()>& body) override {
    if (loss_.happened()) return loss_.error();
    try {
      const c10::cuda::CUDAStreamGuard guard(streams_.compute);
      const WorksFor works_for(SessionId{owner.session});
      body();  // Throws nothing.
    } catch (const c10::Error& error) {
      return Error{ErrorCode::kUnavailable, first_line(error.what_without_backtrace())};
    }
    // An assertion that failed on the device shows at the next call, whoever makes it.
    const cudaError_t state = cudaStreamQuery(streams_.compute);
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError();
    } else if (state != cudaSuccess) {
      loss_.report(cudaGetErrorString(state));
    }
    return Unit{};
  }

  // The cache stays: giving it back to the driver stops the device for everybody.
  void trim() override {}

  c10::Storage allocate(uint64_t bytes, Fill fill) override {
    c10::DataPtr memory = with_reclaim(bytes, [&] { return allocate_raw(bytes); });
    if (fill == Fill::kZero && bytes != 0) {
      C10_CUDA_CHECK(cudaMemsetAsync(memory.mutable_get(), 0, bytes, streams_.compute));
    }
    return storage(std::move(memory), bytes);
  }

  Adopted adopt(const std::shared_ptr<Buffer>& buffer) override {
    auto& upload = static_cast<CudaBuffer&>(*buffer);  // `stage` makes no others.
    void* const memory = with_reclaim(upload.length(), [&] { return upload.on_device(streams_); });
    auto owner = std::make_unique<std::shared_ptr<Buffer>>(buffer);
    c10::DataPtr shared(memory, owner.release(), &drop_buffer, device_);
    return {.storage = storage(std::move(shared), upload.length()), .home = nullptr};
  }

  // A copy from memory that is not pinned would wait for everything before it.
  void write(const c10::Storage& to, Bytes from) override {
    if (from.empty()) return;
    c10::DataPtr host = pinned(from.size());
    std::memcpy(host.mutable_get(), from.data(), from.size());
    C10_CUDA_CHECK(cudaMemcpyAsync(to.mutable_data(), host.get(), from.size(),
                                   cudaMemcpyHostToDevice, streams_.compute));
    at::getHostAllocator(at::kCUDA)->record_event(host.mutable_get(), host.get_context(),
                                                  streams_.compute.unwrap());
  }

  void copy(const c10::Storage& to, const c10::Storage& from, uint64_t bytes) override {
    if (bytes == 0) return;
    C10_CUDA_CHECK(cudaMemcpyAsync(to.mutable_data(), from.data(), bytes, cudaMemcpyDeviceToDevice,
                                   streams_.compute));
  }

  // The source lives until the copy has ended, so no other stream gets its memory.
  HostCopy to_host(const at::Tensor& tensor) override {
    const at::Tensor from = tensor.contiguous();
    at::Tensor to = at::detail::make_tensor<c10::TensorImpl>(
        storage(pinned(from.nbytes()), from.nbytes()), c10::DispatchKeySet(c10::DispatchKey::CPU),
        from.dtype());
    to.unsafeGetTensorImpl()->set_sizes_contiguous(from.sizes());
    if (from.nbytes() != 0) {
      order(streams_.compute, streams_.out);
      C10_CUDA_CHECK(cudaMemcpyAsync(to.mutable_data_ptr(), from.const_data_ptr(), from.nbytes(),
                                     cudaMemcpyDeviceToHost, streams_.out));
    }
    return {.tensor = std::move(to),
            .source = std::make_shared<const c10::Storage>(from.storage())};
  }

  void after(After what, Done done) override {
    std::optional<c10::cuda::CUDAEvent> event;
    if (what == After::kCopies && !loss_.happened()) {
      try {
        event.emplace();
        event->record(streams_.out);
      } catch (const c10::Error& error) {
        event.reset();
        loss_.report(first_line(error.what_without_backtrace()));
      }
    }
    completions_.push(std::move(event), std::move(done));
  }

  at::Generator new_generator() override {
    return at::cuda::detail::createCUDAGenerator(device_.index());
  }
  const at::Generator& default_generator() override {
    return at::cuda::detail::getDefaultCUDAGenerator(device_.index());
  }

 private:
  // Once more if memory is short and somebody can let go of some.
  template <typename Body>
  auto with_reclaim(uint64_t bytes, Body body) -> decltype(body()) {
    try {
      return body();
    } catch (const c10::OutOfMemoryError&) {
      Device::Reclaim reclaim;
      {
        const std::scoped_lock lock(reclaim_mutex_);
        reclaim = reclaim_;
      }
      if (!reclaim || reclaim(bytes) == 0) throw;
    }
    return body();
  }

  const c10::Device device_;
  const uint64_t budget_bytes_;
  std::mutex reclaim_mutex_;
  Device::Reclaim reclaim_;
  Loss loss_;
  const Streams streams_;
  Completions completions_;  // Last: its thread uses what is above.
};

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Versions of one major number work together.
Result<> check_driver() {
  int driver = 0;
  int runtime = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess ||
      cudaRuntimeGetVersion(&runtime) != cudaSuccess || driver / 1000 >= runtime / 1000) {
    return Unit{};
  }
  return Error{ErrorCode::kUnsupported, std::string("the NVIDIA driver supports CUDA ") +
                                            version_text(driver) + ", LibTorch here needs " +
                                            version_text(runtime) + ": update the driver"};
}

// A kernel of LibTorch's runs on this GPU at all: it may be too old for the architectures that were
// built, or too new.
void run_something(const Backend& backend) {
  const at::Tensor ones = at::ones({64}, at::TensorOptions().device(backend.device()));
  TORCH_CHECK(ones.sum().item<float>() == 64, "it cannot add");
}

}  // namespace

Result<std::unique_ptr<Backend>> make_cuda_backend(const PluginOptions& options) {
  DJINN_CHECK(check_driver());
  try {
    at::globalContext().lazyInitDevice(c10::kCUDA);
    // Convolutions would round their inputs to ten bits, and no client can ask for all of them.
    at::globalContext().setAllowTF32CuDNN(false);
    auto backend = std::make_unique<CudaBackend>(options);
    std::string trouble;
    DJINN_CHECK(backend->enter(Owner{}, [&] {
      try {
        run_something(*backend);
      } catch (const c10::Error& error) {
        trouble = first_line(error.what_without_backtrace());
      }
    }));
    if (trouble.empty()) return std::unique_ptr<Backend>(std::move(backend));
    return Error{ErrorCode::kUnsupported,
                 std::string("LibTorch cannot compute on this GPU (") + trouble +
                     "): see whether another process has all of its memory, or choose another"};
  } catch (const c10::Error& error) {
    return Error{ErrorCode::kUnsupported,
                 std::string("LibTorch cannot use this GPU (") +
                     first_line(error.what_without_backtrace()) +
                     "): see whether nvidia-smi and another CUDA program work"};
  }
}

}  // namespace djinn::server::cuda
