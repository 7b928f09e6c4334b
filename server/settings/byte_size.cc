// SPDX-License-Identifier: Apache-2.0
#include "server/settings/byte_size.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace djinn::server {

Result<uint64_t> parse_bytes(std::string_view text) {
  const Error wrong{ErrorCode::kInvalid,
                    "\"" + std::string(text) + "\" is no size: write 1500000, 512M, 2GiB or 2GB"};
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return wrong;
  std::string unit(end, text.data() + text.size());
  std::ranges::transform(unit, unit.begin(), [](unsigned char c) { return std::tolower(c); });
  if (unit.empty() || unit == "b") return value;
  static constexpr std::string_view kUnits = "kmgt";
  const size_t power = kUnits.find(unit[0]);
  const std::string_view rest = std::string_view(unit).substr(1);
  if (power == std::string_view::npos || (!rest.empty() && rest != "ib" && rest != "b")) {
    return wrong;
  }
  const uint64_t step = rest == "b" ? 1000 : 1024;
  for (size_t i = 0; i <= power; ++i) {
    if (__builtin_mul_overflow(value, step, &value)) return wrong;
  }
  return value;
}

std::string bytes_text(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (unit < 4 && bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + kUnits[unit];
}

}  // namespace djinn::server
