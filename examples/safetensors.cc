// SPDX-License-Identifier: Apache-2.0
#include "examples/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace djinn::examples {
namespace {

constexpr size_t kLengthBytes =
    8;  // The file begins with the header's length, little-endian; then JSON; then data.

at::ScalarType dtype_of(const std::string& name) {
  static const std::map<std::string, at::ScalarType> types = {
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf},  {"BF16", at::kBFloat16},
      {"I64", at::kLong},   {"I32", at::kInt},   {"I16", at::kShort}, {"I8", at::kChar},
      {"U8", at::kByte},    {"BOOL", at::kBool}};
  const auto found = types.find(name);
  if (found == types.end()) throw std::runtime_error("unknown dtype " + name);
  return found->second;
}

// Bytes of a tensor; throws where the product does not fit, so a hostile shape cannot wrap around.
size_t bytes_of(const std::vector<int64_t>& shape, size_t item_bytes) {
  size_t bytes = item_bytes;
  for (const int64_t length : shape) {
    if (length < 0) throw std::runtime_error("negative length in a shape");
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(length), &bytes))
      throw std::runtime_error("shape is too large");
  }
  return bytes;
}

[[noreturn]] void fail(const std::string& path, const std::string& why) {
  throw std::runtime_error(path + ": " + why);
}

std::string reason(int error) { return std::generic_category().message(error); }

std::pair<std::shared_ptr<void>, size_t> map_file(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(path, reason(errno));
  struct stat status {};
  if (fstat(file, &status) != 0 || status.st_size < static_cast<off_t>(kLengthBytes)) {
    close(file);
    fail(path, "is too short for a safetensors file");
  }
  const auto length = static_cast<size_t>(status.st_size);
  void* start = mmap(nullptr, length, PROT_READ, MAP_SHARED, file, 0);
  const int error = errno;
  close(file);  // The mapping holds the file.
  if (start == MAP_FAILED) fail(path, reason(error));
  return {std::shared_ptr<void>(start, [length](void* mapped) { munmap(mapped, length); }), length};
}

}  // namespace

Safetensors::Safetensors(const std::filesystem::path& path) : path_(path.string()) {
  auto [mapping, length_bytes] = map_file(path_);
  mapping_ = std::move(mapping);
  try {
    parse_header(length_bytes);
  } catch (const std::exception& error) {
    fail(path_, std::string("is not a valid safetensors file: ") + error.what());
  }
}

void Safetensors::parse_header(size_t length_bytes) {
  const char* file = static_cast<const char*>(mapping_.get());
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file, kLengthBytes);
  if (header_bytes > length_bytes - kLengthBytes)
    throw std::runtime_error("header is longer than the file");
  const size_t data_start = kLengthBytes + header_bytes;
  const auto header = nlohmann::json::parse(file + kLengthBytes, file + data_start);
  for (const auto& [name, fields] : header.items()) {
    if (name == "__metadata__") continue;
    Entry entry{dtype_of(fields.at("dtype").get<std::string>()),
                fields.at("shape").get<std::vector<int64_t>>(), 0};
    const auto [begin, end] = fields.at("data_offsets").get<std::pair<size_t, size_t>>();
    if (begin > end || end > length_bytes - data_start)
      throw std::runtime_error(name + " lies outside the file");
    if (end - begin != bytes_of(entry.shape, c10::elementSize(entry.dtype))) {
      throw std::runtime_error(name + " has another size than its shape says");
    }
    entry.offset_bytes = data_start + begin;
    entries_.emplace(name, std::move(entry));
  }
}

at::Tensor Safetensors::get(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail(path_, "holds no tensor " + name);
  const Entry& entry = found->second;
  void* data = static_cast<char*>(mapping_.get()) + entry.offset_bytes;
  return torch::from_blob(
      data, entry.shape, [mapping = mapping_](void*) {}, at::TensorOptions().dtype(entry.dtype));
}

}  // namespace djinn::examples
