#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SINK_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SINK_H_

#include <functional>
#include <string>
#include <vector>

#include "daemon/toolkit/replay_source.h"

namespace conductor::toolkit {

// Where frames go. One thread. An error ends the replay.
class ReplaySink {
 public:
  virtual ~ReplaySink() = default;

  // Before the first frame; may wait for somebody.
  [[nodiscard]] virtual Status Start() { return {}; }
  [[nodiscard]] virtual Status Take(const SourceFrame& frame) = 0;
  // After the last frame.
  [[nodiscard]] virtual Status Finish() { return {}; }
  // What is to be told at the end, a sentence each.
  [[nodiscard]] virtual std::vector<std::string> Notes() const { return {}; }
};

// Asked now and then by what takes long; true: end soon.
using Stopped = std::function<bool()>;

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SINK_H_
