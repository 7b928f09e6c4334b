// SPDX-License-Identifier: Apache-2.0
#include "client/ghost.h"

#include <memory>

#include <ATen/ops/from_blob.h>

#include "client/djinn.h"
#include "client/session/mapped_file.h"
#include "serialization/files/safetensors.h"

namespace djinn {
namespace {

c10::ScalarType type_of(const std::string& path, const files::SafetensorsEntry& entry) {
  static const std::map<std::string, c10::ScalarType> types = {
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf},  {"BF16", at::kBFloat16},
      {"I64", at::kLong},   {"I32", at::kInt},   {"I16", at::kShort}, {"I8", at::kChar},
      {"U8", at::kByte},    {"BOOL", at::kBool}};
  const auto found = types.find(entry.dtype);
  TORCH_CHECK(found != types.end(), "djinn: ", path, ": \"", entry.name, "\" is of the type ",
              entry.dtype, ", which is not known here");
  return found->second;
}

// Its bytes are where the file is mapped.
at::Tensor in_file(const std::string& path, const std::shared_ptr<const client::MappedFile>& file,
                   const files::SafetensorsEntry& entry) {
  const c10::ScalarType type = type_of(path, entry);
  uint64_t bytes = c10::elementSize(type);
  bool fits = true;
  for (const int64_t length : entry.shape) {
    fits = fits && !__builtin_mul_overflow(bytes, static_cast<uint64_t>(length), &bytes);
  }
  TORCH_CHECK(fits && bytes == entry.length_bytes, "djinn: ", path, ": \"", entry.name,
              "\" has another length than its shape says");
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): nobody gets this tensor to write it
  auto* const begin = const_cast<std::byte*>(file->bytes().data()) + entry.offset_bytes;
  return at::from_blob(
      begin, entry.shape, [file](void* /*bytes*/) {}, at::TensorOptions(type));
}

}  // namespace

std::map<std::string, at::Tensor> load_safetensors(const std::string& path, int device) {
  const auto file = client::MappedFile::open(path);
  TORCH_CHECK(file.has_value(), "djinn: ", file.error().message);
  const auto entries = files::read_safetensors((*file)->bytes());
  TORCH_CHECK(entries.has_value(), "djinn: ", path, " ", entries.error().message);
  const at::Device there(c10::kPrivateUse1, static_cast<c10::DeviceIndex>(device));
  const at::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> out;
  for (const auto& entry : *entries) {
    out.emplace(entry.name, in_file(path, *file, entry).to(there));
  }
  return out;
}

void preload(const std::string& path, int device) {
  const auto tensors = load_safetensors(path, device);  // What has gone is not sent.
  synchronize(device);
}

}  // namespace djinn
