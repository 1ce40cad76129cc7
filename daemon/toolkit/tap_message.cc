#include "daemon/toolkit/tap_message.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr size_t kBytesOfLine = 16;
constexpr size_t kBeside = 2 + 3 * kBytesOfLine - 1 + 2;  // columns before what stands there

// `text` on lines of at most `width` columns, broken between words.
std::vector<std::string> Wrapped(std::string_view text, size_t width) {
  std::vector<std::string> lines(1);
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    std::string& line = lines.back();
    if (!line.empty() && WidthOf(line) + 1 + WidthOf(word) > width) {
      lines.emplace_back(word);
    } else {
      line.append(line.empty() ? "" : " ").append(word);
    }
  }
  return lines;
}

}  // namespace

std::string HexDump(std::span<const std::string_view> frames, const std::vector<std::string>& said,
                    const Terminal& terminal) {
  std::string text;
  const auto line = [&](std::string_view hex, std::string_view beside) {
    std::string made = fmt::format("  {:<47}  {}", hex, beside);
    made.erase(made.find_last_not_of(' ') + 1);
    text += terminal.width > 0 ? Cut(made, terminal.width) : made;
    text += '\n';
  };
  const bool fits = terminal.width == 0 || std::ranges::all_of(said, [&](const std::string& words) {
                      return kBeside + WidthOf(words) <= terminal.width;
                    });
  for (size_t i = 0; i < frames.size(); ++i) {
    const std::string_view frame = frames[i];
    const bool last = i + 1 == frames.size();
    line(terminal.Paint(Colour::kDim,
                        fmt::format("frame {}: {}", i + 1, Counted(frame.size(), "byte"))),
         "");
    size_t told = 0;
    for (size_t at = 0; at < frame.size(); at += kBytesOfLine) {
      std::string hex;
      for (const char c : frame.substr(at, kBytesOfLine)) {
        hex += fmt::format("{}{:02x}", hex.empty() ? "" : " ", static_cast<uint8_t>(c));
      }
      line(hex, last && fits && told < said.size() ? said[told++] : "");
    }
    while (last && fits && told < said.size()) line("", said[told++]);
  }
  if (frames.empty() || !fits) {
    constexpr size_t kIndent = 2;
    const size_t width = terminal.width > kIndent ? terminal.width - kIndent : 200;
    for (const std::string& words : said) {
      for (const std::string& piece : Wrapped(words, width)) line(piece, "");
    }
  }
  return text;
}

}  // namespace conductor::toolkit
