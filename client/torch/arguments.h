// SPDX-License-Identifier: Apache-2.0
// Arguments: an operator's boxed arguments, checked and written to the log.
//
// Threading: `prepare_arguments` without the recorder's lock, `write_arguments` with it.
#pragma once

#include "client/torch/op_info.h"
#include "client/torch/prediction.h"
#include "client/torch/remote_device.h"

namespace djinn::client {

// What there is to know of the arguments before anything is written.
struct Arguments {
  RemoteDevice* device = nullptr;  // Where the operator runs.
  bool boolean_index = false;      // A boolean or byte tensor in a list of optional tensors.
};

// Finds the device; moves index tensors of the host to it. Throws PyTorch's message when tensors
// are on different devices, and a clear one for what cannot travel.
[[nodiscard]] Arguments prepare_arguments(const OpInfo& op, Stack& stack, size_t begin);

void write_arguments(const OpInfo& op, const Stack& stack, size_t begin, RemoteDevice& device);

}  // namespace djinn::client
