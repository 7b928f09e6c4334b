// SPDX-License-Identifier: Apache-2.0
#include "server/ctl/table.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace djinn::ctl {

std::string Table::text() const {
  std::vector<size_t> widths(rows_[0].size());
  for (const Row& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const Row& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - row[i].size(), ' ');
      line += (i == 0 ? "" : "  ") + (i < texts_ ? row[i] + pad : pad + row[i]);
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

uint64_t number(const Json& object, const char* key) { return object.at(key).get<uint64_t>(); }
std::string size(const Json& object, const char* key) { return size_text(number(object, key)); }
std::string count(const Json& object, const char* key) {
  return std::to_string(number(object, key));
}

std::string text(const Json& object, const char* key) {
  auto out = object.at(key).get<std::string>();
  std::ranges::replace_if(
      out, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return out;
}

std::string size_text(uint64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; unit + 1 < kUnits.size() && value >= 1024; ++unit) value /= 1024;
  std::array<char, 32> out{};
  std::snprintf(out.data(), out.size(), unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value,
                kUnits[unit]);
  return out.data();
}

std::string age_text(double seconds) {
  const auto whole = static_cast<uint64_t>(seconds);
  if (whole < 120) return std::to_string(whole) + " s";
  if (whole < 7200) return std::to_string(whole / 60) + " min";
  if (whole < 172'800) return std::to_string(whole / 3600) + " h";
  return std::to_string(whole / 86400) + " d";
}

std::string time_text(uint64_t ns) {
  if (ns == 0) return "-";
  std::array<char, 32> out{};
  const auto us = static_cast<double>(ns) / 1e3;
  std::snprintf(out.data(), out.size(),
                us < 1000  ? "%.0f us"
                : us < 1e6 ? "%.1f ms"
                           : "%.1f s",
                us < 1000  ? us
                : us < 1e6 ? us / 1e3
                           : us / 1e6);
  return out.data();
}

}  // namespace djinn::ctl
