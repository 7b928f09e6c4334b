// SPDX-License-Identifier: Apache-2.0
// A file that says it is one of weights: it is refused, or each tensor lies within it and by
// itself, and its head alone says the same.
//
// Input: the file.
#include <algorithm>

#include "serialization/files/safetensors.h"
#include "tests/fuzz/input.h"

namespace djinn::fuzz {
namespace {

void check(std::span<const std::byte> file) {
  const auto entries = files::read_safetensors(file);
  const auto head_bytes = files::safetensors_head_bytes(file, file.size());
  if (!head_bytes) {
    hold(!entries, "who has no head has no tensors");
    return;
  }
  hold(*head_bytes <= file.size(), "the head lies in the file");
  const auto again = files::read_safetensors_head(file.first(*head_bytes), file.size());
  hold(again.has_value() == entries.has_value(), "the head says the same");
  if (!entries) return;
  hold(again->size() == entries->size(), "of as many tensors");
  uint64_t end = *head_bytes;
  for (const files::SafetensorsEntry& each : *entries) {
    hold(each.offset_bytes >= end, "tensors do not overlap");
    end = each.offset_bytes + each.length_bytes;
    hold(end >= each.offset_bytes && end <= file.size(), "a tensor lies in the file");
    hold(std::ranges::none_of(each.shape, [](int64_t length) { return length < 0; }),
         "no length is negative");
  }
}

}  // namespace
}  // namespace djinn::fuzz

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<uint8_t> bytes(data, data + size);
  djinn::fuzz::check(std::as_bytes(std::span(bytes)));
  return 0;
}
