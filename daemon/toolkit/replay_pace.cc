#include "daemon/toolkit/replay_pace.h"

#include <algorithm>
#include <chrono>

#include "lib/wire/timestamp.h"

namespace conductor::toolkit {
namespace {

constexpr double kYear = 366 * 86400.0;  // seconds
constexpr double kLongest = 1e8;         // seconds

}  // namespace

double PublishedAt(const SourceFrame& frame) {
  if (!frame.answered) return frame.at;
  const auto stamped = wire::PeekTimestamp(frame.Payload());
  // Some clocks run ahead, and some count from the start of their machine.
  const bool is_time = stamped && *stamped <= frame.at && *stamped > frame.at - kYear;
  return is_time ? *stamped : frame.at;
}

Duration Pace::Due(const SourceFrame& frame) {
  if (speed_ <= 0 || !frame.IsMessage()) return last_;
  const double at = PublishedAt(frame);
  first_ = first_.value_or(at);
  const std::chrono::duration<double> since(std::clamp((at - *first_) / speed_, 0.0, kLongest));
  last_ = std::max(last_, std::chrono::duration_cast<Duration>(since));
  return last_;
}

}  // namespace conductor::toolkit
