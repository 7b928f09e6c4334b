// SPDX-License-Identifier: Apache-2.0
// Completions: what is to happen when the device has come so far, one thing behind another.
//
// Why a thread and not cudaLaunchHostFunc: what happens here frees tensors, and a host function may
// not call CUDA.
// Ownership: owns what waits. Threading: any thread pushes; a thread of its own runs it.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include <c10/cuda/CUDAEvent.h>

#include "server/torch/backend.h"
#include "server/torch/cuda/loss.h"

namespace djinn::server::cuda {

class Completions {
 public:
  Completions(c10::DeviceIndex device, Loss& loss);
  // Runs what waits.
  ~Completions();
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  // `done` runs when everything before it has, and the event (if there is one) was reached.
  void push(std::optional<c10::cuda::CUDAEvent> event, Backend::Done done);

 private:
  struct Item {
    std::optional<c10::cuda::CUDAEvent> event;
    Backend::Done done;
  };
  void thread_main();
  void run(Item item);

  const c10::DeviceIndex device_;
  Loss& loss_;
  std::mutex mutex_;
  std::condition_variable wanted_;
  std::deque<Item> items_;
  bool stopping_ = false;
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace djinn::server::cuda
