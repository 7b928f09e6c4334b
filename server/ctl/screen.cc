// SPDX-License-Identifier: Apache-2.0
#include "server/ctl/screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

namespace djinn::ctl {
namespace {

constexpr const char* kEnter = "\x1b[?1049h\x1b[?25l";  // The other screen, and no cursor.
constexpr const char* kLeave = "\x1b[?25h\x1b[?1049l";
constexpr const char* kHome = "\x1b[H";
constexpr std::string_view kEndOfLine = "\x1b[K\r\n";
constexpr const char* kRestOfScreen = "\x1b[J";

Result<> write(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  if (std::fflush(stdout) == 0) return Unit{};
  return Error{ErrorCode::kFailed, "the output cannot be written"};
}

bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

std::string_view cut_line(std::string_view line, size_t columns) {
  size_t characters = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (begins_character(line[i]) && ++characters > columns) return line.substr(0, i);
  }
  return line;
}

}  // namespace

std::string cut(const std::string& text, size_t rows, size_t columns) {
  std::string out;
  std::string_view left = text;
  for (size_t row = 0; row < rows && !left.empty(); ++row) {
    const std::string_view line = left.substr(0, left.find('\n'));
    out += std::string(cut_line(line, columns)) + "\n";
    left.remove_prefix(std::min(line.size() + 1, left.size()));
  }
  return out;
}

Screen::Screen(bool live) : live_(live) {
  if (live_) (void)write(kEnter);
}

Screen::~Screen() {
  if (live_) (void)write(kLeave);
}

Result<> Screen::show(const std::string& text) {
  if (!live_) return write(text);
  winsize size{};
  const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1;
  // The last row stays free: a line that ends there would move all others up.
  const std::string part =
      cut(text, known ? size.ws_row - 1U : 23U, known ? size_t{size.ws_col} : 80U);
  std::string out = kHome;
  for (const char c : part) {
    if (c == '\n') {
      out += kEndOfLine;
    } else {
      out += c;
    }
  }
  return write(out + kRestOfScreen);
}

bool has_terminal() { return ::isatty(STDOUT_FILENO) == 1; }

}  // namespace djinn::ctl
