// SPDX-License-Identifier: Apache-2.0
// Mapped file: a file's bytes, read-only, for as long as somebody holds them.
//
// A shared mapping, so that its pages may be forgotten (file_mapping.h). Ownership: shared; the
// bytes go with the last holder. The file must not shrink meanwhile. Threading: immutable.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "serialization/base/result.h"

namespace djinn::client {

class MappedFile {
 public:
  // kNotFound, or kInvalid for what is no regular file; the error names the path.
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  const std::span<const std::byte> bytes_;
};

}  // namespace djinn::client
