#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_MESSAGE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_MESSAGE_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/recorded_message.h"
#include "daemon/toolkit/tap_event.h"
#include "daemon/toolkit/terminal.h"

namespace conductor::toolkit {

// The frames in hex, 16 bytes a line, with what is said of them; lines with their ends. `said`
// stands beside the last frame, a line each, and where the terminal has no room for that under it,
// on as many lines as it takes.
[[nodiscard]] std::string HexDump(std::span<const std::string_view> frames,
                                  const std::vector<std::string>& said, const Terminal& terminal);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_MESSAGE_H_
