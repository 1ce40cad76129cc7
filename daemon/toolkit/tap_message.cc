#include "daemon/toolkit/tap_message.h"

#include <fmt/format.h>

#include <algorithm>

namespace conductor::toolkit {
namespace {

constexpr size_t kBytesOfLine = 16;

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
  for (size_t i = 0; i < frames.size(); ++i) {
    const std::string_view frame = frames[i];
    const bool last = i + 1 == frames.size();
    line(terminal.Paint(Colour::kDim, fmt::format("frame {}: {} byte{}", i + 1, frame.size(),
                                                  frame.size() == 1 ? "" : "s")),
         "");
    size_t told = 0;
    for (size_t at = 0; at < frame.size(); at += kBytesOfLine) {
      std::string hex;
      for (const char c : frame.substr(at, kBytesOfLine)) {
        hex += fmt::format("{}{:02x}", hex.empty() ? "" : " ", static_cast<uint8_t>(c));
      }
      line(hex, last && told < said.size() ? said[told++] : "");
    }
    while (last && told < said.size()) line("", said[told++]);
  }
  if (frames.empty()) {
    for (const std::string& beside : said) line("", beside);
  }
  return text;
}

}  // namespace conductor::toolkit
