// SPDX-License-Identifier: Apache-2.0
// The preloaded half of large_copies.h: memcpy and memmove that count. No Torch, no allocation.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "benchmarks/harness/large_copies.h"

namespace {

using djinn::benchmarks::kLargeCopyBytes;
using djinn::benchmarks::LargeCopyCounters;
using Copy = void* (*)(void*, const void*, size_t);

LargeCopyCounters* counters = nullptr;
Copy real_memmove = nullptr;

// Before the program's own constructors; what is copied earlier is copied by `early`.
__attribute__((constructor)) void start() {
  real_memmove = reinterpret_cast<Copy>(dlsym(RTLD_NEXT, "memmove"));
  const char* const file = std::getenv("DJINN_LARGE_COPIES");  // NOLINT(concurrency-mt-unsafe)
  if (file == nullptr) return;
  const int fd = open(file, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void* const at =
      mmap(nullptr, sizeof(LargeCopyCounters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (at != MAP_FAILED) counters = static_cast<LargeCopyCounters*>(at);
}

void* early(void* to, const void* from, size_t bytes) {
  auto* const t = static_cast<volatile char*>(to);
  const auto* const f = static_cast<const volatile char*>(from);
  if (t < f) {
    for (size_t i = 0; i < bytes; ++i) t[i] = f[i];
  } else {
    for (size_t i = bytes; i > 0; --i) t[i - 1] = f[i - 1];
  }
  return to;
}

void* counted(void* to, const void* from, size_t bytes) {
  if (bytes >= kLargeCopyBytes && counters != nullptr) {
    counters->calls.fetch_add(1, std::memory_order_relaxed);
    counters->bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  return real_memmove != nullptr ? real_memmove(to, from, bytes) : early(to, from, bytes);
}

}  // namespace

extern "C" {
void* memcpy(void* __restrict to, const void* __restrict from, size_t bytes) noexcept {
  return counted(to, from, bytes);
}
void* memmove(void* to, const void* from, size_t bytes) noexcept {
  return counted(to, from, bytes);
}
}
