// SPDX-License-Identifier: Apache-2.0
// Fake driver: the three functions of libcuda.so.1 that the server asks before it loads anything of
// CUDA. FAKE_GPUS says how many there are; without it, cuInit fails.
#include <cstdlib>

extern "C" {

int cuInit(unsigned) { return std::getenv("FAKE_GPUS") == nullptr ? 100 : 0; }  // NOLINT

int cuDeviceGetCount(int* count) {               // NOLINT: their name
  *count = std::atoi(std::getenv("FAKE_GPUS"));  // NOLINT
  return 0;
}

int cuGetErrorString(int, const char** text) {  // NOLINT: their name
  *text = "no CUDA-capable device is detected";
  return 0;
}
}
