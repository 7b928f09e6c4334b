// SPDX-License-Identifier: Apache-2.0
// Safetensors: the tensors of one .safetensors file, read through a read-only mapping.
//
// Why a mapping: nothing is read before it is used, programs on one machine share the pages, and a
// device that takes bytes from a mapped file can send them without a copy. The price: the file must
// not shrink while it is in use. Ownership: each tensor keeps the mapping alive by itself; the
// reader may go. Threading: immutable after open.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

namespace djinn::examples {

class Safetensors {
 public:
  // Throws std::runtime_error that names the file when it is missing or is not what the format
  // demands.
  explicit Safetensors(const std::filesystem::path& path);

  // A tensor on the CPU that borrows the mapping. It must not be written to: the pages are
  // read-only.
  [[nodiscard]] at::Tensor get(const std::string& name) const;

  [[nodiscard]] bool has(const std::string& name) const { return entries_.contains(name); }
  [[nodiscard]] size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    at::ScalarType dtype;
    std::vector<int64_t> shape;
    size_t offset_bytes;  // From the start of the mapping.
  };
  void parse_header(size_t length_bytes);

  std::string path_;
  std::shared_ptr<void> mapping_;
  std::map<std::string, Entry> entries_;
};

}  // namespace djinn::examples
