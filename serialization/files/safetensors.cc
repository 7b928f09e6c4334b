// SPDX-License-Identifier: Apache-2.0
#include "serialization/files/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "serialization/base/limits.h"

namespace djinn::files {
namespace {

using Json = nlohmann::json;

Error invalid(const std::string& why) {
  return {ErrorCode::kInvalid, "is no valid safetensors file: " + why};
}

Result<SafetensorsEntry> read_entry(const std::string& name, const Json& fields,
                                    uint64_t data_begin, uint64_t data_bytes) {
  SafetensorsEntry out;
  out.name = name;
  out.dtype = fields.at("dtype").get<std::string>();
  out.shape = fields.at("shape").get<std::vector<int64_t>>();
  const auto [begin, end] = fields.at("data_offsets").get<std::pair<uint64_t, uint64_t>>();
  if (begin > end || end > data_bytes) return invalid("\"" + name + "\" lies outside of it");
  if (std::ranges::any_of(out.shape, [](int64_t length) { return length < 0; })) {
    return invalid("\"" + name + "\" has a negative length");
  }
  out.offset_bytes = data_begin + begin;
  out.length_bytes = end - begin;
  return out;
}

}  // namespace

Result<uint64_t> safetensors_head_bytes(std::span<const std::byte> begin, uint64_t file_bytes) {
  uint64_t header_bytes = 0;
  static_assert(sizeof header_bytes == kSafetensorsLengthBytes);
  if (begin.size() < sizeof header_bytes) return invalid("it is too short");
  std::memcpy(&header_bytes, begin.data(), sizeof header_bytes);
  const uint64_t rest = file_bytes - sizeof header_bytes;
  if (header_bytes > std::min(rest, kSafetensorsHeaderBytesMax)) {
    return invalid("its header is too long");
  }
  return sizeof header_bytes + header_bytes;
}

Result<std::vector<SafetensorsEntry>> read_safetensors_head(std::span<const std::byte> head,
                                                            uint64_t file_bytes) {
  const auto* const text = reinterpret_cast<const char*>(head.data());
  std::vector<SafetensorsEntry> out;
  try {
    const Json header = Json::parse(text + kSafetensorsLengthBytes, text + head.size());
    if (!header.is_object()) return invalid("its header is no object");
    for (const auto& [name, fields] : header.items()) {
      if (name == "__metadata__") continue;
      DJINN_TRY(out.emplace_back(),
                read_entry(name, fields, head.size(), file_bytes - head.size()));
    }
  } catch (const Json::exception& error) {
    return invalid(error.what());
  }
  std::ranges::sort(out, {}, &SafetensorsEntry::offset_bytes);
  for (size_t i = 1; i < out.size(); ++i) {
    if (out[i].offset_bytes < out[i - 1].offset_bytes + out[i - 1].length_bytes) {
      return invalid("\"" + out[i - 1].name + "\" and \"" + out[i].name + "\" overlap");
    }
  }
  return out;
}

Result<std::vector<SafetensorsEntry>> read_safetensors(std::span<const std::byte> file) {
  DJINN_TRY(const uint64_t head_bytes, safetensors_head_bytes(file, file.size()));
  return read_safetensors_head(file.first(head_bytes), file.size());
}

}  // namespace djinn::files
