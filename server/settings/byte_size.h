// SPDX-License-Identifier: Apache-2.0
// Byte sizes as people write them: "2GiB", "512M", "1500000". Threading: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "serialization/base/result.h"

namespace djinn::server {

// A whole number and a unit: K, M, G, T with or without "iB" are powers of 1024; with "B" powers of
// 1000; nothing or "B" is bytes. Letters may be small. kInvalid says what is accepted.
Result<uint64_t> parse_bytes(std::string_view text);

// The shortest exact form that parse_bytes reads back.
[[nodiscard]] std::string bytes_text(uint64_t bytes);

}  // namespace djinn::server
