#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_MESSAGE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_MESSAGE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/tap_event.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/result.h"

namespace conductor::toolkit {

// A message of a publisher, told apart into its parts; views its frames.
struct TapMessage {
  std::string_view topic;
  uint64_t sequence = 0;
  std::string_view payload;
  bool replay_end = false;  // the end marker of a replay: nothing else in it counts
};

// Of a live message (topic, sequence, payload) or of an answer of a replay endpoint, in either
// form. The error says what it is instead.
[[nodiscard]] Result<TapMessage> ReadMessage(std::span<const std::string_view> frames,
                                             bool replayed);

// The frames in hex, 16 bytes a line, with what is said of them beside; lines with their ends.
// `said` stands beside the last frame; the first lines are for what the frames are.
[[nodiscard]] std::string HexDump(std::span<const std::string_view> frames,
                                  const std::vector<std::string>& said, const Terminal& terminal);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_MESSAGE_H_
