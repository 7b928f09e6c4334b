// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cuda_probe.h"

#include <dlfcn.h>

#include <string>
#include <string_view>

namespace djinn::server {
namespace {

constexpr const char* kDriver = "libcuda.so.1";

// The driver's functions return a number: 0 is good.
using Init = int (*)(unsigned flags);
using Count = int (*)(int* count);
using Text = int (*)(int status, const char** text);

template <typename Function>
Function function(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

Error missing(std::string_view what, std::string_view detail, std::string_view cure) {
  Error error{ErrorCode::kNotFound, {}};
  error.message.append(what).append(detail).append(cure).append(", or choose --device cpu");
  return error;
}

std::string text_of(void* driver, int status) {
  const auto describe = function<Text>(driver, "cuGetErrorString");
  const char* text = nullptr;
  if (describe == nullptr || describe(status, &text) != 0 || text == nullptr) {
    return std::string("error ") + std::to_string(status);
  }
  return text;
}

}  // namespace

Result<> probe_cuda(int device_index) {
  void* const driver = dlopen(kDriver, RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) {
    return missing("there is no NVIDIA driver (", kDriver,
                   " cannot be loaded): install it on a machine with a GPU");
  }
  const auto init = function<Init>(driver, "cuInit");
  const auto count_devices = function<Count>(driver, "cuDeviceGetCount");
  if (init == nullptr || count_devices == nullptr) {
    return missing("what is installed as ", kDriver, " is no NVIDIA driver: reinstall the driver");
  }
  int count = 0;
  int status = init(0);
  if (status == 0) status = count_devices(&count);
  if (status != 0) {
    return missing("the NVIDIA driver finds no usable GPU (", text_of(driver, status),
                   "): see what nvidia-smi says");
  }
  if (count == 0) {
    return missing("the NVIDIA driver finds no GPU", "",
                   ": see nvidia-smi and CUDA_VISIBLE_DEVICES");
  }
  if (device_index >= count) {
    return missing("the last GPU of this machine is cuda:", std::to_string(count - 1),
                   ": choose another");
  }
  return Unit{};
}

}  // namespace djinn::server
