// SPDX-License-Identifier: Apache-2.0
// Torch device: the Device interface on top of a Backend; the same for every kind of device.
#pragma once

#include <memory>
#include <string>

#include "server/torch/backend.h"

namespace djinn::server {

[[nodiscard]] std::unique_ptr<Device> make_torch_device(std::string name,
                                                        std::unique_ptr<Backend> backend);

}  // namespace djinn::server
