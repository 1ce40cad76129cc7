#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_RECORDING_SOURCE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_RECORDING_SOURCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/toolkit/replay_source.h"
#include "lib/trace/recording_reader.h"

namespace conductor::toolkit {

// What a recorded publisher's frames are read as: its facts, where there are any, under the flags.
// A fact that cannot be used is a note.
[[nodiscard]] SourcePublisher DescribedBy(const trace::RecordedPublisher& recorded,
                                          const ReadAs& as, std::vector<std::string>& notes);

// Recordings, one after the other as if they were one. They are read twice: what is in them has to
// be known before the first frame.
class RecordingSource : public ReplaySource {
 public:
  // `paths`: at least one. Of a rotated recording all parts are read, and no file twice.
  [[nodiscard]] static Result<std::unique_ptr<RecordingSource>> Open(
      const std::vector<std::string>& paths, const ReadAs& as);

  [[nodiscard]] const std::vector<SourcePublisher>& publishers() const override {
    return publishers_;
  }
  [[nodiscard]] Result<bool> Next(SourceFrame& frame) override;
  [[nodiscard]] std::optional<double> Progress() const override;
  [[nodiscard]] Lost lost() const override { return lost_; }
  [[nodiscard]] std::vector<std::string> Notes() const override;

  // What the recordings say of publishers, by number.
  [[nodiscard]] const std::vector<trace::RecordedPublisher>& recorded() const { return recorded_; }
  // The first of what could not be read, a sentence each.
  [[nodiscard]] const std::vector<std::string>& damages() const { return damages_; }
  [[nodiscard]] std::vector<std::string> Files() const override { return files_; }

 private:
  RecordingSource(trace::RecordingReader reader, std::vector<std::string> files)
      : reader_(std::move(reader)), files_(std::move(files)) {}

  // What there is of whom.
  void Scan(trace::RecordingReader& reader, const ReadAs& as);
  // A publisher that does not say its model has that of the others, where all of them have one.
  void ShareModel();
  static void Take(const trace::RecordedFrame& recorded, SourceFrame& frame);
  // False for what is nothing to a replay.
  [[nodiscard]] bool Take(const trace::RecordedMark& mark, SourceFrame& frame) const;

  trace::RecordingReader reader_;
  std::vector<std::string> files_;
  std::vector<SourcePublisher> publishers_;
  std::vector<trace::RecordedPublisher> recorded_;
  std::vector<std::string> notes_;
  std::vector<std::string> damages_;
  Lost lost_;
  uint64_t bytes_ = 0;  // of all files
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_RECORDING_SOURCE_H_
