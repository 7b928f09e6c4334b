// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cpu_memory.h"

#include <cstring>
#include <string>

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

thread_local Owner current_owner;

}  // namespace

CpuMemory& CpuMemory::instance() {
  static CpuMemory* const memory = [] {
    auto* made = new CpuMemory;  // Tensors of static objects may outlive any order of ends.
    c10::SetCPUAllocator(made, 100);
    return made;
  }();
  return *memory;
}

void CpuMemory::refuse(size_t bytes, const Owner& owner) const {
  const MemoryUsage usage = memory_.usage();
  std::string text = "out of memory: " + std::to_string(bytes) + " bytes were asked for";
  if (usage.budget != 0) {
    const uint64_t free = usage.budget > usage.used ? usage.budget - usage.used : 0;
    text += ", " + std::to_string(free) + " of " + std::to_string(usage.budget) +
            " are free, the longest part has " + std::to_string(usage.largest_free);
  }
  if (const Account* const account = owner.account) {
    text +=
        "; tenant " + account->tenant() + " has " + std::to_string(account->used(Tier::kDevice));
    const uint64_t limit = account->limit(Tier::kDevice);
    if (limit != 0) text += " and may have " + std::to_string(limit);
  }
  C10_THROW_ERROR(OutOfMemoryError, text);
}

MappedMemory::Block CpuMemory::take(size_t bytes, const Owner& owner) {
  if (bytes > kStorageBytesMax || (fault_ && fault_(bytes))) refuse(bytes, owner);
  // What the tiers will never move keeps out of the part that they move together.
  const bool fixed = bytes < kTieredBytesMin || owner.account == nullptr;
  const Arena::End end = fixed ? Arena::End::kHigh : Arena::End::kLow;
  MappedMemory::Block block = memory_.take(bytes, owner, end);
  while (block.memory == nullptr && make_room_ && make_room_(bytes, owner.account)) {
    block = memory_.take(bytes, owner, end);
  }
  if (block.memory == nullptr) {  // Better in the wrong place than refused.
    block = memory_.take(bytes, owner, fixed ? Arena::End::kLow : Arena::End::kHigh);
  }
  if (block.memory == nullptr) refuse(bytes, owner);
  return block;
}

c10::DataPtr CpuMemory::give(size_t bytes, Want want) {
  const c10::Device cpu(c10::kCPU);
  if (bytes == 0) return {nullptr, nullptr, &release, cpu};
  const Owner owner = current_owner;
  const MappedMemory::Block block = take(bytes, owner);
  const bool others = block.content != owner.session || owner.session == Owner::kNobody;
  if (block.content != Arena::kZeros &&
      (want == Want::kZeros || (want == Want::kOwnBytes && others))) {
    std::memset(block.memory, 0, bytes);
  }
  return {block.memory, block.memory, &release, cpu};
}

void CpuMemory::release(void* memory) {
  if (memory != nullptr) instance().memory_.release(memory);
}

c10::DataPtr CpuMemory::allocate(size_t bytes) { return give(bytes, Want::kOwnBytes); }
c10::DataPtr CpuMemory::allocate_zeroed(size_t bytes) { return give(bytes, Want::kZeros); }
c10::DataPtr CpuMemory::allocate_raw(size_t bytes) { return give(bytes, Want::kAnything); }

void CpuMemory::set_owner(const Owner& owner) { current_owner = owner; }
const Owner& CpuMemory::owner() { return current_owner; }

}  // namespace djinn::server
