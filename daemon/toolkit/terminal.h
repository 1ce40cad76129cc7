#ifndef CONDUCTOR_DAEMON_TOOLKIT_TERMINAL_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TERMINAL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace conductor::toolkit {

enum class Colour : uint8_t { kPlain, kBold, kDim, kRed, kGreen, kYellow, kCyan };

// What a descriptor that people may look at can show.
struct Terminal {
  bool interactive = false;  // a terminal that understands escape sequences: live views are for it
  bool colour = false;
  size_t width = 0;  // columns; 0: lines may be as long as they are

  // `text` in that colour, where there is any.
  [[nodiscard]] std::string Paint(Colour colour, std::string_view text) const;
};

// Of a file descriptor, as it is now. No colour where NO_COLOR is set and not empty, or TERM is
// "dumb". The width is what COLUMNS says, else the terminal's; what is no terminal has none, unless
// COLUMNS says so.
[[nodiscard]] Terminal TerminalOf(int descriptor);

// Columns that `text` takes: its UTF-8 code points, but for colour sequences.
[[nodiscard]] size_t WidthOf(std::string_view text);

// `text`, of at most `width` columns: what is cut off shows as "…". Colours that it began end.
[[nodiscard]] std::string Cut(std::string_view text, size_t width);

// The same with its beginning cut off: of names whose ends tell them apart. For text without
// colours.
[[nodiscard]] std::string CutBeginning(std::string_view text, size_t width);

// `text` with what would move a terminal's cursor or change its state (control characters, those of
// C1 too), and what is no UTF-8, shown as \xNN: for what comes from the network.
[[nodiscard]] std::string Printable(std::string_view text);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TERMINAL_H_
