// SPDX-License-Identifier: Apache-2.0
// Model file: a .safetensors file as a test wants it. Threading: one thread.
#pragma once

#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace djinn::testing {

struct ModelTensor {
  std::string name;
  std::vector<int64_t> shape;  // of float32
  std::span<const std::byte> bytes;
};

// The file's beginning, as the tensors follow it one after the other.
inline std::string model_head(std::span<const ModelTensor> tensors) {
  std::string header;
  uint64_t begin = 0;
  for (const ModelTensor& each : tensors) {
    std::string shape;
    for (const int64_t length : each.shape) {
      shape += (shape.empty() ? "" : ",") + std::to_string(length);
    }
    const uint64_t end = begin + each.bytes.size();
    header += (header.empty() ? "{\"" : ",\"") + each.name + R"(":{"dtype":"F32","shape":[)" +
              shape + R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) +
              "]}";
    begin = end;
  }
  header += header.empty() ? "{}" : "}";
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header;
}

inline void write_model(const std::string& path, std::span<const ModelTensor> tensors) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << model_head(tensors);
  for (const ModelTensor& each : tensors) {
    out.write(reinterpret_cast<const char*>(each.bytes.data()),
              static_cast<std::streamsize>(each.bytes.size()));
  }
}

}  // namespace djinn::testing
