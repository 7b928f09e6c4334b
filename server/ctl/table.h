// SPDX-License-Identifier: Apache-2.0
// Table: rows and columns for people, and what is read out of a page for them.
//
// Threading: plain values and pure functions.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace djinn::ctl {

using Json = nlohmann::ordered_json;

// Rows of cells, the first of which are titles; texts to the left, numbers to the right.
class Table {
 public:
  using Row = std::vector<std::string>;
  explicit Table(Row titles, size_t texts) : texts_(texts) { rows_.push_back(std::move(titles)); }
  void add(Row row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] std::string text() const;

 private:
  const size_t texts_;
  std::vector<Row> rows_;
};

// They throw Json::exception if the object has no such key, or something else there.
[[nodiscard]] uint64_t number(const Json& object, const char* key);
[[nodiscard]] std::string count(const Json& object, const char* key);
[[nodiscard]] std::string size(const Json& object, const char* key);
// What it says, without control characters: a terminal would obey them.
[[nodiscard]] std::string text(const Json& object, const char* key);

// "1.5 GiB"
[[nodiscard]] std::string size_text(uint64_t bytes);
// "2 h"
[[nodiscard]] std::string age_text(double seconds);
// "2.5 ms"; "-" of nothing.
[[nodiscard]] std::string time_text(uint64_t ns);

}  // namespace djinn::ctl
