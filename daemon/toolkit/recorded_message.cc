#include "daemon/toolkit/recorded_message.h"

#include <fmt/format.h>

#include "lib/base/bytes.h"
#include "lib/base/number.h"

namespace conductor::toolkit {

Result<RecordedMessage> ReadMessage(std::span<const std::string_view> frames, bool replayed) {
  if (replayed ? frames.size() < 3 || frames.size() > 4 : frames.size() != 3) {
    return Fail(fmt::format("a message of {}", Counted(frames.size(), "frame")), {},
                replayed ? "empty, perhaps topic, sequence, payload" : "topic, sequence, payload");
  }
  RecordedMessage message;
  message.payload = frames.back();
  const std::string_view sequence = frames[frames.size() - 2];
  if (sequence.size() != sizeof message.sequence) {
    return Fail(fmt::format("a sequence of {}", Counted(sequence.size(), "byte")), {},
                fmt::format("{}, big-endian", sizeof message.sequence));
  }
  message.sequence = LoadBigEndian64(sequence);
  if (!replayed) message.topic = frames[0];
  if (replayed && frames.size() == 4) message.topic = frames[1];
  message.replay_end = replayed && message.sequence == kEndOfReplay && message.payload.empty();
  return message;
}

}  // namespace conductor::toolkit
