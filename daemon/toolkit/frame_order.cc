#include "daemon/toolkit/frame_order.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr size_t kBytesBeside = 160;  // of a message, about, beside what is in its frames

size_t DigestOf(std::string_view payload) { return std::hash<std::string_view>()(payload); }

size_t BytesOf(const SourceFrame& frame) {
  size_t bytes = kBytesBeside;
  for (const std::string& part : frame.frames) bytes += sizeof part + part.size();
  return bytes;
}

// What is no answer keeps its frames, so that it is counted as the malformed message that it is.
void MakeLive(SourceFrame& frame, bool is_answer) {
  frame.kind = SourceFrame::Kind::kLive;
  frame.answered = true;
  if (is_answer && frame.frames.size() == 4) frame.frames.erase(frame.frames.begin());
}

}  // namespace

const FrameOrder::Known* FrameOrder::Lane::Find(uint64_t sequence) const {
  if (const auto known = newer.find(sequence); known != newer.end()) return &known->second;
  const auto known = older.find(sequence);
  return known == older.end() ? nullptr : &known->second;
}

FrameOrder::FrameOrder(const std::vector<SourcePublisher>& publishers, size_t most_waiting)
    : most_waiting_(most_waiting) {
  for (const SourcePublisher& publisher : publishers) {
    lanes_.push_back({.name = publisher.name,
                      .remembers = publisher.has_answers,
                      .ends = publisher.answer_ends});
  }
}

void FrameOrder::Push(SourceFrame frame, const Out& out) {
  using Kind = SourceFrame::Kind;
  if (frame.kind == Kind::kStopped) {
    for (Lane& lane : lanes_) {
      lane.answered.reset();
      Release(lane, out);
    }
    return;
  }
  Lane& lane = lanes_.at(frame.publisher);
  switch (frame.kind) {
    case Kind::kAnswer:
      PushAnswer(lane, std::move(frame), out);
      break;
    case Kind::kAnswerEnd:
      if (lane.ends > 0) --lane.ends;
      lane.answered.reset();
      Release(lane, out);
      break;
    default:
      PushLive(lane, std::move(frame), out);
  }
}

void FrameOrder::PushLive(Lane& lane, SourceFrame frame, const Out& out) {
  lane.answered.reset();
  bool waits = !lane.waiting.empty();
  if (!waits && frame.IsMessage() && lane.ends > 0 && !lane.too_much) {
    const auto message = frame.Message();
    waits = message && message->sequence > (lane.last ? *lane.last + 1 : 0);
  }
  if (!waits) {
    HandOn(lane, frame, /*answered=*/false, out);
    return;
  }
  const size_t bytes = BytesOf(frame);
  lane.waiting.push_back(std::move(frame));
  waiting_bytes_ += bytes;
  if (waiting_bytes_ <= most_waiting_) return;
  lane.too_much = true;
  Release(lane, out);
}

void FrameOrder::PushAnswer(Lane& lane, SourceFrame frame, const Out& out) {
  const auto message = frame.Message();
  if (message && message->replay_end) {
    frame.kind = SourceFrame::Kind::kAnswerEnd;
    Push(std::move(frame), out);
    return;
  }
  if (!message || message->sequence == kEndOfReplay) {
    MakeLive(frame, message.has_value());
    out(frame);
    return;
  }
  const uint64_t sequence = message->sequence;
  if (lane.answered && sequence <= *lane.answered) {
    ++lane.back;
    return;
  }
  lane.answered = sequence;
  ReleaseBefore(lane, sequence, out);
  MakeLive(frame, /*is_answer=*/true);
  HandOn(lane, frame, /*answered=*/true, out);
}

// One under a number of the answer that is another message is of a new life, and so are those
// behind it.
void FrameOrder::ReleaseBefore(Lane& lane, uint64_t sequence, const Out& out) {
  while (!lane.waiting.empty()) {
    const SourceFrame& first = lane.waiting.front();
    if (first.IsMessage()) {
      const auto message = first.Message();
      if (message && message->sequence >= sequence) return;
      const Known* known = message ? lane.Find(message->sequence) : nullptr;
      if (known != nullptr && known->digest != DigestOf(message->payload)) return;
    }
    ReleaseFirst(lane, out);
  }
}

void FrameOrder::ReleaseFirst(Lane& lane, const Out& out) {
  const SourceFrame frame = std::move(lane.waiting.front());
  lane.waiting.pop_front();
  const size_t bytes = BytesOf(frame);
  waiting_bytes_ -= bytes;
  HandOn(lane, frame, /*answered=*/false, out);
}

void FrameOrder::Release(Lane& lane, const Out& out) {
  while (!lane.waiting.empty()) ReleaseFirst(lane, out);
}

void FrameOrder::HandOn(Lane& lane, const SourceFrame& frame, bool answered, const Out& out) {
  if (!frame.IsMessage()) {
    out(frame);
    return;
  }
  const auto message = frame.Message();
  if (!message) {
    out(frame);
    return;
  }
  if (lane.remembers) {
    const size_t digest = DigestOf(message->payload);
    const Known* known = lane.Find(message->sequence);
    // What came live twice did so.
    if (known != nullptr && known->digest == digest && (answered || known->answered)) {
      ++lane.twice;
      return;
    }
    if (lane.newer.size() >= kRemembered) lane.older = std::exchange(lane.newer, {});
    lane.newer[message->sequence] = {digest, answered};
  }
  lane.last = message->sequence;
  out(frame);
}

void FrameOrder::Flush(const Out& out) {
  for (Lane& lane : lanes_) Release(lane, out);
}

std::vector<std::string> FrameOrder::Notes() const {
  std::vector<std::string> notes;
  for (const Lane& lane : lanes_) {
    if (lane.twice > 0) {
      notes.push_back(fmt::format("{}: {} in an answer of its replay endpoint too, and read once",
                                  lane.name, Counted(lane.twice, "message")));
    }
    if (lane.back > 0) {
      notes.push_back(
          fmt::format("{}: {} left out: out of order in an answer of its replay endpoint",
                      lane.name, Counted(lane.back, "message")));
    }
    if (lane.too_much) {
      notes.push_back(
          fmt::format("{}: more than {} of live messages wait for the end of an answer; from "
                      "there on they are read where they stand",
                      lane.name, FormatSize(most_waiting_)));
    }
  }
  return notes;
}

}  // namespace conductor::toolkit
