// SPDX-License-Identifier: Apache-2.0
// Tokenizer: byte-level BPE as GPT-2 does it, with the split of SmolLM2 in front (each digit by
// itself).
//
// Text -> special tokens cut out -> digits cut out -> GPT-2's regex -> bytes spelled as printable
// characters -> merges by rank. Reads the tokenizer.json of Hugging Face's tokenizers; what is not
// of this kind is refused when it is opened. Ownership: none beyond itself. Threading: immutable
// after construction; decoding streams have their own state.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace djinn::examples {

class Tokenizer {
 public:
  explicit Tokenizer(const std::filesystem::path&
                         tokenizer_json);  // Throws std::runtime_error that names the file.
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Special tokens are recognised anywhere in the text, as Hugging Face does by default. Text is
  // UTF-8.
  [[nodiscard]] std::vector<int64_t> encode(std::string_view text) const;

  // The bytes of one token; they may end within a character. Ids outside the vocabulary give
  // nothing.
  [[nodiscard]] std::string_view bytes_of(int64_t id) const;
  [[nodiscard]] std::string decode(
      const std::vector<int64_t>& ids) const;  // Broken UTF-8 becomes U+FFFD.
  [[nodiscard]] int64_t id_of(
      const std::string& special) const;  // Throws if there is no such special token.
  [[nodiscard]] bool is_special(int64_t id) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t id;
  };
  struct Split;  // The two compiled regular expressions.
  void read_vocabulary(const std::string& text);
  void encode_plain(std::string_view text, std::vector<int64_t>& ids) const;
  void encode_word(std::string_view word, std::vector<int64_t>& ids) const;

  std::vector<std::string> bytes_;       // By id: the bytes a token stands for.
  std::array<int32_t, 256> byte_ids_{};  // The token of each single byte.
  std::unordered_map<uint64_t, Merge>
      merges_;  // (left << 32 | right) -> what they become, and how early.
  std::vector<std::pair<std::string, int64_t>> specials_;  // Longest first.
  std::string special_starts_;                             // The first byte of each.
  std::unique_ptr<Split> split_;
};

// Utf8Stream: gives out whole characters as bytes come in, so text can be printed while it is made.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);  // What is complete by now; broken bytes as U+FFFD.
  std::string finish();                      // What was left over.

 private:
  std::string pending_;
};

}  // namespace djinn::examples
