// SPDX-License-Identifier: Apache-2.0
#include "examples/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

namespace djinn::examples {
namespace {

// White space as Unicode's White_Space has it; PCRE2's \s would add U+180E.
#define DJINN_SPACE \
  R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})"
constexpr const char* kDigit = R"(\p{N})";
constexpr const char* kWord =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" DJINN_SPACE "\\p{L}\\p{N}]+|[" DJINN_SPACE
    "]+(?![^" DJINN_SPACE "])|[" DJINN_SPACE "]+";
#undef DJINN_SPACE
constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr int32_t kNone = -1;

// One compiled expression; matches are found one after the other in a text.
class Regex {
 public:
  explicit Regex(const char* pattern) {
    int error = 0;
    PCRE2_SIZE at = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
    if (code_ == nullptr) throw std::logic_error("a pattern of the tokenizer does not compile");
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);  // Without it the same matches come more slowly.
  }
  ~Regex() { pcre2_code_free(code_); }
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Calls found(part, is_match) for each match and each part between matches, in order.
  template <typename Found>
  void split(std::string_view text, Found found) const {
    pcre2_match_data* match = pcre2_match_data_create_from_pattern(code_, nullptr);
    size_t from = 0;
    while (from < text.size() && pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()),
                                             text.size(), from, 0, match, nullptr) > 0) {
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match);
      if (range[1] == range[0]) break;
      if (range[0] > from) found(text.substr(from, range[0] - from), false);
      found(text.substr(range[0], range[1] - range[0]), true);
      from = range[1];
    }
    pcre2_match_data_free(match);
    if (from < text.size()) found(text.substr(from), false);
  }

 private:
  pcre2_code* code_;
};

// GPT-2's spelling of bytes: printable ones stand for themselves, the others for U+0100, U+0101,
// ... in order.
std::unordered_map<std::string, uint8_t> spelled_bytes() {
  std::unordered_map<std::string, uint8_t> spelled;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const uint32_t point = printable ? byte : next++;
    std::string character;
    if (point < 0x80) {
      character = {static_cast<char>(point)};
    } else {
      character = {static_cast<char>(0xC0 | (point >> 6)),
                   static_cast<char>(0x80 | (point & 0x3F))};
    }
    spelled.emplace(std::move(character), static_cast<uint8_t>(byte));
  }
  return spelled;
}

// Length of the character that starts at `at`: 0 if more bytes are needed, negative: so many bytes
// are broken.
int character_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(at);
  if (lead < 0x80) return 1;
  const int length = lead >= 0xC2 && lead <= 0xDF   ? 2
                     : (lead & 0xF0) == 0xE0        ? 3
                     : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                    : -1;
  for (int i = 1; i < length; ++i) {
    const size_t next = at + static_cast<size_t>(i);
    if (next == text.size()) return 0;
    uint8_t low = 0x80;
    uint8_t high = 0xBF;
    if (i == 1 && lead == 0xE0) low = 0xA0;   // Overlong.
    if (i == 1 && lead == 0xED) high = 0x9F;  // Surrogates.
    if (i == 1 && lead == 0xF0) low = 0x90;   // Overlong.
    if (i == 1 && lead == 0xF4) high = 0x8F;  // Above U+10FFFF.
    if (byte(next) < low || byte(next) > high) return -i;
  }
  return length;
}

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// The split in front of the merges is code here, so a file that wants another one is refused.
void check_kind(const nlohmann::json& file) {
  const auto& split = file.at("pre_tokenizer").at("pretokenizers");
  const bool known = file.at("model").at("type") == "BPE" && split.size() == 2 &&
                     split[0].at("type") == "Digits" && split[0].at("individual_digits") == true &&
                     split[1].at("type") == "ByteLevel" &&
                     split[1].at("add_prefix_space") == false &&
                     split[1].value("use_regex", true) && file.at("normalizer").is_null();
  if (!known) throw std::runtime_error("is not a byte-level BPE with single digits");
}

}  // namespace

struct Tokenizer::Split {
  Regex digit{kDigit};
  Regex word{kWord};
};

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer::Tokenizer(const std::filesystem::path& tokenizer_json)
    : split_(std::make_unique<Split>()) {
  std::ifstream file(tokenizer_json, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    throw std::runtime_error(tokenizer_json.string() + ": cannot be read");
  try {
    read_vocabulary(text.str());
  } catch (const std::exception& error) {
    throw std::runtime_error(tokenizer_json.string() + ": " + error.what());
  }
}

void Tokenizer::read_vocabulary(const std::string& text) {
  const auto file = nlohmann::json::parse(text);
  check_kind(file);
  const auto spelled = spelled_bytes();
  std::unordered_map<std::string, int32_t> ids;
  byte_ids_.fill(kNone);
  for (const auto& [token, value] : file.at("model").at("vocab").items()) {
    const auto id = value.get<int32_t>();
    if (id < 0) throw std::runtime_error("a token has a negative id");
    ids.emplace(token, id);
    if (static_cast<size_t>(id) >= bytes_.size()) bytes_.resize(static_cast<size_t>(id) + 1);
    std::string& bytes = bytes_[static_cast<size_t>(id)];
    for (size_t at = 0; at < token.size();) {
      const auto length = static_cast<size_t>(std::max(1, character_length(token, at)));
      const auto byte = spelled.find(token.substr(at, length));
      bytes += byte != spelled.end() ? std::string(1, static_cast<char>(byte->second))
                                     : token.substr(at, length);
      at += length;
    }
    if (bytes.size() == 1) byte_ids_[static_cast<uint8_t>(bytes[0])] = id;
  }
  int32_t rank = 0;
  for (const auto& merge : file.at("model").at("merges")) {
    const auto left = merge.at(0).get<std::string>();
    const auto right = merge.at(1).get<std::string>();
    merges_.emplace(pair_of(ids.at(left), ids.at(right)), Merge{rank++, ids.at(left + right)});
  }
  for (const auto& token : file.at("added_tokens")) {
    auto content = token.at("content").get<std::string>();
    const auto id = token.at("id").get<int64_t>();
    bytes_.at(static_cast<size_t>(id)) = content;
    if (content.empty()) throw std::runtime_error("a special token is empty");
    special_starts_ += content[0];
    specials_.emplace_back(std::move(content), id);
  }
  std::ranges::stable_sort(
      specials_, [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
}

std::vector<int64_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  size_t from = 0;
  for (size_t at = text.find_first_of(special_starts_); at < text.size();
       at = text.find_first_of(special_starts_, at)) {
    const auto special = std::ranges::find_if(
        specials_, [&](const auto& each) { return text.substr(at).starts_with(each.first); });
    if (special == specials_.end()) {
      ++at;
      continue;
    }
    encode_plain(text.substr(from, at - from), ids);
    ids.push_back(special->second);
    at += special->first.size();
    from = at;
  }
  encode_plain(text.substr(from), ids);
  return ids;
}

void Tokenizer::encode_plain(std::string_view text, std::vector<int64_t>& ids) const {
  split_->digit.split(text, [&](std::string_view part, bool) {
    split_->word.split(part, [&](std::string_view word, bool) { encode_word(word, ids); });
  });
}

// Merges the pair of lowest rank until there is none. Quadratic in the word, and words are short;
// what is not (a run of one sign) is still thousands per second.
void Tokenizer::encode_word(std::string_view word, std::vector<int64_t>& ids) const {
  std::vector<int32_t> parts;
  parts.reserve(word.size());
  for (const char byte : word) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id != kNone) parts.push_back(id);  // Bytes that never occur in UTF-8 have no token.
  }
  while (parts.size() > 1) {
    Merge best{std::numeric_limits<int32_t>::max(), kNone};
    size_t best_at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto merge = merges_.find(pair_of(parts[i], parts[i + 1]));
      if (merge != merges_.end() && merge->second.rank < best.rank) {
        best = merge->second;
        best_at = i;
      }
    }
    if (best.id == kNone) break;
    parts[best_at] = best.id;
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
  ids.insert(ids.end(), parts.begin(), parts.end());
}

std::string_view Tokenizer::bytes_of(int64_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= bytes_.size()) return {};
  return bytes_[static_cast<size_t>(id)];
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids) const {
  Utf8Stream stream;
  std::string text;
  for (const int64_t id : ids) text += stream.push(bytes_of(id));
  return text + stream.finish();
}

int64_t Tokenizer::id_of(const std::string& special) const {
  for (const auto& [text, id] : specials_) {
    if (text == special) return id;
  }
  throw std::runtime_error("the tokenizer has no special token " + special);
}

bool Tokenizer::is_special(int64_t id) const {
  return std::ranges::any_of(specials_, [id](const auto& each) { return each.second == id; });
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string text;
  size_t at = 0;
  while (at < pending_.size()) {
    const int length = character_length(pending_, at);
    if (length == 0) break;
    if (length > 0) {
      text.append(pending_, at, static_cast<size_t>(length));
    } else {
      text += kReplacement;
    }
    at += static_cast<size_t>(std::abs(length));
  }
  pending_.erase(0, at);
  return text;
}

std::string Utf8Stream::finish() {
  std::string text = pending_.empty() ? "" : kReplacement;
  pending_.clear();
  return text;
}

}  // namespace djinn::examples
