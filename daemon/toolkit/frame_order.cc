#include "daemon/toolkit/frame_order.h"

#include <string_view>
#include <utility>

namespace conductor::toolkit {
namespace {

constexpr uint64_t kEndMarker = ~uint64_t{0};

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
      lane.last.reset();
      Release(lane, out);
      return;
    }
    const auto number = frame.Sequence();
    if (number && *number != kEndMarker) {
      // No answer goes back: under its number this would look like a restart.
      if (lane.last && *number <= *lane.last) return;
      lane.last = *number;
    }
    if (lane.waits && number) {
      lane.answered[*number] = std::hash<std::string_view>()(frame.Payload());
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
    const auto answered = lane.answered.find(frame.Sequence().value_or(kEndMarker));
    if (answered != lane.answered.end() &&
        answered->second == std::hash<std::string_view>()(frame.Payload())) {
      continue;
    }
    out(frame);
  }
  lane.answered.clear();
}

}  // namespace conductor::toolkit
