// SPDX-License-Identifier: Apache-2.0
// Bytes: variable-length integers in a byte string, written and read back with bounds checked.
//
// An unsigned integer is 7 bits a byte, lowest first, the top bit says "more" (LEB128); a signed
// one is zigzagged first, so that small negative numbers stay short. Threading: plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace djinn::graph {

using ByteString = std::vector<uint8_t>;
using ByteSpan = std::span<const uint8_t>;

[[nodiscard]] constexpr uint64_t zigzag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}
[[nodiscard]] constexpr int64_t unzigzag(uint64_t value) {
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}

inline void put_varint(ByteString& out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<uint8_t>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<uint8_t>(value));
}

inline void put_word(ByteString& out, uint64_t value) {
  const size_t at = out.size();
  out.resize(at + sizeof value);
  std::memcpy(out.data() + at, &value, sizeof value);
}

// Reads from the front of a span. After the first read past the end or of a malformed integer,
// `ok()` is false and every read gives 0: check once, behind the last read.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}

  uint8_t u8() {
    if (at_ >= bytes_.size()) return fail();
    return bytes_[at_++];
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = u8();
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) {
        if (shift == 63 && byte > 1) return fail();  // more than 64 bits
        return value;
      }
    }
    return fail();
  }

  uint64_t word() {
    uint64_t value = 0;
    if (bytes_.size() - at_ < sizeof value) return fail();
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  std::string_view text(uint64_t length) {
    if (bytes_.size() - at_ < length) {
      fail();
      return {};
    }
    const std::string_view view(reinterpret_cast<const char*>(bytes_.data()) + at_, length);
    at_ += length;
    return view;
  }

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }
  [[nodiscard]] size_t position() const { return at_; }

 private:
  uint8_t fail() {
    ok_ = false;
    at_ = bytes_.size();
    return 0;
  }

  ByteSpan bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace djinn::graph
