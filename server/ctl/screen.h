// SPDX-License-Identifier: Apache-2.0
// Screen: a terminal that shows one text after another in the same place, and is as it was when
// this object has gone.
//
// Threading: one thread.
#pragma once

#include <cstddef>
#include <string>

#include "serialization/base/result.h"

namespace djinn::ctl {

// A text's first `rows` lines, each cut to `columns` characters (of UTF-8).
[[nodiscard]] std::string cut(const std::string& text, size_t rows, size_t columns);

class Screen {
 public:
  // Of standard output. Unless it is `live`, texts are only written, one behind the other.
  explicit Screen(bool live);
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // kFailed: it cannot be written.
  Result<> show(const std::string& text);

 private:
  const bool live_;
};

// Whether standard output is a terminal.
[[nodiscard]] bool has_terminal();

}  // namespace djinn::ctl
