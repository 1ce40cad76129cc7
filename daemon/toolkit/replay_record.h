#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_RECORD_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_RECORD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/toolkit/replay_sink.h"
#include "lib/trace/recording_writer.h"

namespace conductor::toolkit {

// Writes a source's frames as a recording: verbatim, at their own times. It takes them as the
// source gives them, answers as answers.
class RecordSink : public ReplaySink {
 public:
  struct Options {
    std::string path;
    uint64_t rotate_bytes = 0;  // 0: one file
  };

  [[nodiscard]] static Result<std::unique_ptr<RecordSink>> Open(
      const Options& options, const std::vector<SourcePublisher>& publishers);

  [[nodiscard]] Status Take(const SourceFrame& frame) override;
  [[nodiscard]] Status Finish() override;
  [[nodiscard]] std::vector<std::string> Notes() const override;

 private:
  RecordSink(trace::RecordingWriter writer, std::string path,
             std::vector<SourcePublisher> publishers);

  // Its number in the recording, where it is told of when its first frame comes.
  [[nodiscard]] Result<uint32_t> NumberOf(uint32_t publisher);

  trace::RecordingWriter writer_;
  const std::string path_;
  const std::vector<SourcePublisher> publishers_;
  std::vector<std::optional<uint32_t>> numbers_;  // in the recording, by publisher
  uint64_t messages_ = 0;
  int64_t last_ns_ = 0;
  bool stopped_ = false;  // the source's recorder was, last
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_RECORD_H_
