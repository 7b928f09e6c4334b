// SPDX-License-Identifier: Apache-2.0
#include "tests/server/torch/guarded_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

namespace djinn::server {
namespace {

constexpr size_t kPage = 4096;

struct Mapping {
  void* begin;
  size_t bytes;
};

std::mutex mutex;
std::unordered_map<void*, Mapping>& mappings() {
  static auto* const all = new std::unordered_map<void*, Mapping>;
  return *all;
}

void release(void* memory) {
  const std::scoped_lock lock(mutex);
  const auto found = mappings().find(memory);
  if (found == mappings().end()) return;  // nothing, or of the time before
  munmap(found->second.begin, found->second.bytes);
  mappings().erase(found);
}

// A page that may not be touched, the block at the end of its pages, and another such page.
class GuardedMemory final : public c10::Allocator {
 public:
  explicit GuardedMemory(size_t bytes_max) : bytes_max_(bytes_max) {}

  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::kCPU);
    if (bytes == 0) return {nullptr, nullptr, &release, cpu};
    if (bytes > bytes_max_) C10_THROW_ERROR(OutOfMemoryError, "too much");
    const size_t body = (bytes + kPage - 1) / kPage * kPage;
    Mapping mapping{nullptr, body + 2 * kPage};
    mapping.begin =
        mmap(nullptr, mapping.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(mapping.begin != MAP_FAILED, "no address space");
    auto* const first = static_cast<std::byte*>(mapping.begin) + kPage;
    mprotect(first, body, PROT_READ | PROT_WRITE);
    std::memset(first, 0xa5, body);  // What a stranger left there.
    void* const memory = first + (body - bytes);
    const std::scoped_lock lock(mutex);
    mappings()[memory] = mapping;
    return {memory, memory, &release, cpu};
  }
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  size_t bytes_max_;
};

}  // namespace

void guard_memory(size_t bytes_max) {
  static auto* const memory = new GuardedMemory(bytes_max);  // Never freed: tensors point to it.
  c10::SetCPUAllocator(memory, 200);
}

}  // namespace djinn::server
