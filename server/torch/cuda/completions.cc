// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cuda/completions.h"

#include <pthread.h>

#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

namespace djinn::server::cuda {

Completions::Completions(c10::DeviceIndex device, Loss& loss)
    : device_(device), loss_(loss), thread_([this] { thread_main(); }) {
  pthread_setname_np(thread_.native_handle(), "djinn-cuda-done");
}

Completions::~Completions() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    wanted_.notify_one();
  }
  thread_.join();
}

void Completions::push(std::optional<c10::cuda::CUDAEvent> event, Backend::Done done) {
  const std::scoped_lock lock(mutex_);
  items_.push_back({.event = std::move(event), .done = std::move(done)});
  wanted_.notify_one();
}

void Completions::thread_main() {
  if (const cudaError_t status = cudaSetDevice(device_); status != cudaSuccess) {
    loss_.report(cudaGetErrorString(status));
  }
  while (true) {
    Item item;
    {
      std::unique_lock lock(mutex_);
      wanted_.wait(lock, [this] { return stopping_ || !items_.empty(); });
      if (items_.empty()) return;
      item = std::move(items_.front());
      items_.pop_front();
    }
    run(std::move(item));
  }
}

void Completions::run(Item item) {
  if (item.event && !loss_.happened()) {
    const cudaError_t status = cudaEventSynchronize(item.event->event());
    if (status != cudaSuccess) loss_.report(cudaGetErrorString(status));
  }
  item.event.reset();
  item.done(loss_.happened() ? &loss_.error() : nullptr);
}

}  // namespace djinn::server::cuda
