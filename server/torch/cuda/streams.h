// SPDX-License-Identifier: Apache-2.0
// Streams: the three queues of the device that a server uses, none of them the default one.
//
// All sessions' operators run on `compute`, in the order in which the executor starts them. Copies
// have a queue each way, so that they overlap operators and one another.
// Threading: values; a queue takes work from any thread.
#pragma once

#include <c10/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAStream.h>

namespace djinn::server::cuda {

struct Streams {
  explicit Streams(c10::DeviceIndex device)
      : compute(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)),
        in(c10::cuda::getStreamFromPool(false, device)),
        out(c10::cuda::getStreamFromPool(false, device)) {}

  c10::cuda::CUDAStream compute;
  c10::cuda::CUDAStream in;   // host to device
  c10::cuda::CUDAStream out;  // device to host
};

// What `later` gets from here on runs behind what `earlier` has got so far.
inline void order(const c10::cuda::CUDAStream& earlier, const c10::cuda::CUDAStream& later) {
  c10::cuda::CUDAEvent reached;
  reached.record(earlier);
  reached.block(later);  // The wait stays when the event is destroyed.
}

}  // namespace djinn::server::cuda
