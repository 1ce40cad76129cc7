#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_RECORDER_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_RECORDER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/tap.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/trace/recording_writer.h"

namespace conductor::toolkit {

// What `tap --record` writes; does nothing without. The first error stays and is what
// problem() says: a recording that cannot go on ends the command.
class TapRecorder {
 public:
  // Opens the file, and says on standard error when it goes on with one. `stopped` ends the look
  // through that one, which takes a while where it is large.
  [[nodiscard]] Status Open(const TapOptions& options, const std::function<bool()>& stopped);

  // In the order of their numbers.
  void Add(const trace::RecordedPublisher& publisher);
  void Message(int64_t time_ns, uint32_t publisher, bool replayed,
               std::span<const std::string_view> frames);
  // Its publisher is such a number, or all of them.
  void Mark(trace::RecordedMark mark);

  [[nodiscard]] std::optional<MonoTime> Deadline() const;
  void Tick(MonoTime now);
  // Writes the end.
  void Close();

  [[nodiscard]] bool recording() const { return writer_.has_value(); }
  [[nodiscard]] const std::optional<Error>& problem() const { return problem_; }
  // "recorded 12 KiB in FILE"; empty without.
  [[nodiscard]] std::string Summary() const;

 private:
  void Keep(const Status& status);

  std::string path_;
  std::optional<trace::RecordingWriter> writer_;
  uint64_t found_bytes_ = 0;
  std::vector<uint32_t> numbers_;  // in the recording
  std::optional<Error> problem_;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_RECORDER_H_
