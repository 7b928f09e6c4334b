// SPDX-License-Identifier: Apache-2.0
// Input: the bytes that libFuzzer made, taken apart from the front; and what a fuzz target says
// when a promise is broken.
//
// Where libFuzzer's bytes are handed on as a view, they are copied into memory of exactly their
// length first, so that AddressSanitizer sees the first byte read behind them. Seed is the other
// direction: `fuzz_seeds` writes with it what a target reads with Input.
// Threading: plain values.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

namespace djinn::fuzz {

// Ends the process when something promised does not hold; libFuzzer keeps the input that did it.
inline void hold(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "fuzz: broken promise: %s\n", what);
  std::abort();
}

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(data, size) {}

  [[nodiscard]] bool empty() const { return rest_.empty(); }
  uint8_t u8() {
    const auto bytes = take(1);
    return bytes.empty() ? uint8_t{0} : bytes[0];
  }
  uint64_t word() {
    uint64_t value = 0;
    const auto bytes = take(sizeof value);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t*>(&value));
    return value;
  }
  // At most so many: what is there.
  std::vector<uint8_t> bytes(size_t count) {
    const auto bytes = take(count);
    return {bytes.begin(), bytes.end()};
  }
  // A part that says its length, in one byte or in two.
  std::vector<uint8_t> small_part() { return bytes(u8()); }
  std::vector<uint8_t> part() {
    const size_t low = u8();
    return bytes(low + size_t{256} * u8());
  }
  std::vector<uint8_t> rest() { return bytes(rest_.size()); }

 private:
  std::span<const uint8_t> take(size_t count) {
    const auto taken = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }

  std::span<const uint8_t> rest_;
};

class Seed {
 public:
  Seed& u8(uint8_t value) {
    bytes_.push_back(value);
    return *this;
  }
  Seed& word(uint64_t value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
    return *this;
  }
  Seed& bytes(std::span<const uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  Seed& bytes(std::span<const std::byte> view) {
    return bytes(std::span(reinterpret_cast<const uint8_t*>(view.data()), view.size()));
  }
  Seed& small_part(std::span<const uint8_t> part) {
    hold(part.size() < 256, "a small part of a seed");
    return u8(static_cast<uint8_t>(part.size())).bytes(part);
  }
  template <typename Part>
  Seed& part(const Part& part) {
    hold(part.size() < 65536, "a part of a seed");
    return u8(static_cast<uint8_t>(part.size()))
        .u8(static_cast<uint8_t>(part.size() / 256))
        .bytes(part);
  }

  [[nodiscard]] const std::vector<uint8_t>& get() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace djinn::fuzz
