#ifndef CONDUCTOR_LIB_STREAM_LIVE_LINK_H_
#define CONDUCTOR_LIB_STREAM_LIVE_LINK_H_

#include <optional>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace conductor::stream {

// The way that one publisher's live messages come: calls of its stream, in the order in which
// things happened. Of one ingest thread.
class LiveLink {
 public:
  virtual ~LiveLink() = default;

  // What may fail for good. The stream is started between this and Begin.
  [[nodiscard]] virtual Status Open() = 0;
  virtual void Begin() = 0;

  // See Task. Ends at about `until`.
  virtual void Turn(bool monitor, MonoTime until) = 0;
  [[nodiscard]] virtual bool HasMoreWork() const = 0;
  [[nodiscard]] virtual std::optional<MonoTime> Deadline() const = 0;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_LIVE_LINK_H_
