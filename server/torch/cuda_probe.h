// SPDX-License-Identifier: Apache-2.0
// CUDA probe: is there a driver, and a GPU of that number?
//
// Why before anything else is loaded: LibTorch's CUDA part is gigabytes, and without a driver its
// errors do not say what is missing. It asks the driver's own library, so nothing of CUDA is
// linked. Threading: any thread; the driver stays loaded.
#pragma once

#include "serialization/base/result.h"

namespace djinn::server {

// kNotFound: one sentence that says what is missing, and its cure.
Result<> probe_cuda(int device_index);

}  // namespace djinn::server
