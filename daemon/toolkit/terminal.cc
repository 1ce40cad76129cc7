#include "daemon/toolkit/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

// The bytes of the code point that `text` begins with; 0 when it is a control character (C0, DEL or
// C1, which some terminals obey in UTF-8, too) or no UTF-8.
size_t PrintableSize(std::string_view text) {
  const auto byte = [text](size_t at) { return static_cast<unsigned char>(text[at]); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7F ? 1 : 0;
  const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return 0;
  uint32_t code = lead & (0xFFu >> (size + 1));
  for (size_t at = 1; at < size; ++at) {
    if (BeginsCodePoint(text[at])) return 0;
    code = code << 6 | (byte(at) & 0x3Fu);
  }
  constexpr std::array<uint32_t, 5> kLeast = {0, 0, 0xA0, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return code >= kLeast[size] && code <= 0x10FFFF && !surrogate ? size : 0;
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
  while (!text.empty()) {
    const size_t size = PrintableSize(text);
    if (size == 0) shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
    shown += text.substr(0, size);
    text.remove_prefix(std::max<size_t>(size, 1));
  }
  return shown;
}

}  // namespace conductor::toolkit
