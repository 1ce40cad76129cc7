#ifndef CONDUCTOR_DAEMON_TOOLKIT_RECORDED_MESSAGE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_RECORDED_MESSAGE_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "lib/base/result.h"

namespace conductor::toolkit {

// The number of the message that ends an answer of a replay endpoint; its payload is empty.
inline constexpr uint64_t kEndOfReplay = ~uint64_t{0};

// A message of a publisher, told apart into its parts; views its frames.
struct RecordedMessage {
  std::string_view topic;
  uint64_t sequence = 0;
  std::string_view payload;
  bool replay_end = false;  // the end marker of a replay: nothing else in it counts
};

// Of a live message (topic, sequence, payload) or of an answer of a replay endpoint, in either
// form. The error says what it is instead.
[[nodiscard]] Result<RecordedMessage> ReadMessage(std::span<const std::string_view> frames,
                                                  bool replayed);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_RECORDED_MESSAGE_H_
