// SPDX-License-Identifier: Apache-2.0
// Safetensors: where in a .safetensors file which tensor's bytes lie.
//
// Both ends read such files: a client sends a model's tensors from one, and a server that has the
// file mounted needs none of them sent. The file is somebody else's: what it says is checked
// against its length, and what a type means is the caller's business.
// Format: the header's length (8 bytes, little-endian), the header as JSON, the tensors' bytes.
// Threading: a pure function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "serialization/base/result.h"

namespace djinn::files {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // "F32", "BF16", ...
  std::vector<int64_t> shape;
  uint64_t offset_bytes = 0;  // from the beginning of the file
  uint64_t length_bytes = 0;
};

// The tensors in the order of their bytes. kInvalid says what is wrong with the file.
Result<std::vector<SafetensorsEntry>> read_safetensors(std::span<const std::byte> file);

// The same in two steps, for who does not have all of it in memory: how many bytes at its beginning
// say where the tensors lie, from the first 8 of them; and the tensors, from these.
inline constexpr size_t kSafetensorsLengthBytes = 8;
Result<uint64_t> safetensors_head_bytes(std::span<const std::byte> begin, uint64_t file_bytes);
Result<std::vector<SafetensorsEntry>> read_safetensors_head(std::span<const std::byte> head,
                                                            uint64_t file_bytes);

}  // namespace djinn::files
