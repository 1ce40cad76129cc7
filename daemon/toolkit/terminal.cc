#include "daemon/toolkit/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr char kEscape = '\x1b';
constexpr std::string_view kReset = "\x1b[0m";

std::string_view Sequence(Colour colour) {
  switch (colour) {
    case Colour::kPlain:
      return "";
    case Colour::kBold:
      return "\x1b[1m";
    case Colour::kDim:
      return "\x1b[2m";
    case Colour::kRed:
      return "\x1b[31m";
    case Colour::kGreen:
      return "\x1b[32m";
    case Colour::kYellow:
      return "\x1b[33m";
    case Colour::kCyan:
      return "\x1b[36m";
  }
  return "";
}

std::string_view Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

bool BeginsCodePoint(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

// The length of what stands at `at` and belongs together: a colour sequence or a code point.
size_t Piece(std::string_view text, size_t at) {
  size_t end = at + 1;
  if (text[at] == kEscape) {
    while (end < text.size() && text[end] != 'm') ++end;
    return std::min(end + 1, text.size()) - at;
  }
  while (end < text.size() && !BeginsCodePoint(text[end])) ++end;
  return end - at;
}

}  // namespace

std::string Terminal::Paint(Colour of, std::string_view text) const {
  if (!colour || of == Colour::kPlain) return std::string(text);
  return fmt::format("{}{}{}", Sequence(of), text, kReset);
}

Terminal TerminalOf(int descriptor) {
  Terminal terminal;
  const std::string_view kind = Environment("TERM");
  terminal.interactive = isatty(descriptor) == 1 && !kind.empty() && kind != "dumb";
  terminal.colour = terminal.interactive && Environment("NO_COLOR").empty();
  winsize size{};
  if (isatty(descriptor) == 1) {
    terminal.width =
        ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  }
  if (const auto columns = ParseNumber(Environment("COLUMNS"), "COLUMNS", 1, 10000)) {
    terminal.width = *columns;
  }
  return terminal;
}

size_t WidthOf(std::string_view text) {
  size_t width = 0;
  for (size_t at = 0; at < text.size(); at += Piece(text, at)) width += text[at] != kEscape;
  return width;
}

std::string Cut(std::string_view text, size_t width) {
  if (WidthOf(text) <= width) return std::string(text);
  if (width == 0) return {};
  std::string cut;
  size_t taken = 0;
  bool coloured = false;
  for (size_t at = 0; at < text.size() && taken + 1 < width;) {
    const size_t piece = Piece(text, at);
    coloured |= text[at] == kEscape;
    taken += text[at] != kEscape;
    cut.append(text.substr(at, piece));
    at += piece;
  }
  cut += "…";
  if (coloured) cut += kReset;
  return cut;
}

std::string CutBeginning(std::string_view text, size_t width) {
  size_t left = WidthOf(text);
  if (left <= width) return std::string(text);
  if (width == 0) return {};
  size_t at = 0;
  for (; left >= width; --left) at += Piece(text, at);
  return "…" + std::string(text.substr(at));
}

std::string Printable(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      shown += fmt::format("\\x{:02x}", byte);
    } else {
      shown += c;
    }
  }
  return shown;
}

}  // namespace conductor::toolkit
