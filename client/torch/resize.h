// SPDX-License-Identifier: Apache-2.0
// Resize: tensors of the device take other sizes; PyTorch's own code would touch their bytes.
// Threading: any thread.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

namespace djinn::client {

// at::resize_ for a remote tensor: grows the storage if need be, never shrinks it.
const at::Tensor& resize_remote(const at::Tensor& self, c10::IntArrayRef sizes,
                                std::optional<c10::MemoryFormat> format);

}  // namespace djinn::client
