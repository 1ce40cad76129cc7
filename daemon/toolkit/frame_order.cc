#include "daemon/toolkit/frame_order.h"

#include <string_view>
#include <utility>

namespace conductor::toolkit {
namespace {

// Read from the tail: [delimiter] [topic] sequence payload. What is no answer keeps its frames, so
// that it is counted as the malformed message that it is.
void MakeLive(SourceFrame& frame) {
  frame.kind = SourceFrame::Kind::kLive;
  if (frame.frames.size() == 4) frame.frames.erase(frame.frames.begin());
}

}  // namespace

FrameOrder::FrameOrder(const std::vector<SourcePublisher>& publishers) {
  for (const SourcePublisher& publisher : publishers) {
    lanes_.push_back({.waits = publisher.has_live && publisher.has_whole_answer});
  }
}

void FrameOrder::Push(SourceFrame frame, const Out& out) {
  Lane& lane = lanes_.at(frame.publisher);
  if (frame.kind == SourceFrame::Kind::kAnswer) {
    if (lane.over) return;
    if (frame.IsEnd()) {
      lane.over = std::exchange(lane.waits, false);
      Release(lane, out);
      return;
    }
    if (lane.waits) {
      if (const auto sequence = frame.Sequence()) {
        lane.answered[*sequence] = std::hash<std::string_view>()(frame.Payload());
      }
    }
    MakeLive(frame);
    out(frame);
  } else if (lane.waits) {
    lane.held.push_back(std::move(frame));
  } else {
    out(frame);
  }
}

void FrameOrder::Flush(const Out& out) {
  for (Lane& lane : lanes_) Release(lane, out);
}

void FrameOrder::Release(Lane& lane, const Out& out) {
  for (const SourceFrame& frame : std::exchange(lane.held, {})) {
    // Under the same number a restart publishes something else.
    const auto answered = lane.answered.find(frame.Sequence().value_or(~uint64_t{0}));
    if (answered != lane.answered.end() &&
        answered->second == std::hash<std::string_view>()(frame.Payload())) {
      continue;
    }
    out(frame);
  }
  lane.answered.clear();
}

}  // namespace conductor::toolkit
