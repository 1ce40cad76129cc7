#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SNAPSHOT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SNAPSHOT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/toolkit/new_file.h"
#include "daemon/toolkit/offline_conductor.h"
#include "daemon/toolkit/replay_sink.h"
#include "lib/store/saved_publisher.h"

namespace conductor::toolkit {

// Makes frames into a snapshot: what a daemon would have saved that was handed them
// (`OfflineConductor`). The file is there once all is; a replay that fails leaves what was there.
class SnapshotSink : public ReplaySink {
 public:
  // Errors: the file cannot be written, is a running daemon's, or is there and not to be lost.
  [[nodiscard]] static Result<std::unique_ptr<SnapshotSink>> Open(
      const std::string& path, const std::vector<SourcePublisher>& publishers,
      NewFile::Over over = NewFile::Over::kSnapshot);

  // In the order of FrameOrder.
  [[nodiscard]] Status Take(const SourceFrame& frame) override;
  [[nodiscard]] Status Finish() override;
  [[nodiscard]] std::vector<std::string> Notes() const override;

  // What was saved; nothing before Finish() succeeded.
  [[nodiscard]] const std::optional<store::SnapshotInfo>& info() const { return info_; }

 private:
  struct Lane {
    SourcePublisher publisher;
    std::vector<stream::Intake::Message> messages;
    bool heard = false;
  };

  SnapshotSink(NewFile file, std::string path, const std::vector<SourcePublisher>& publishers);
  [[nodiscard]] Status Feed(Lane& lane);

  NewFile file_;
  const std::string path_;
  OfflineConductor conductor_;
  std::vector<Lane> lanes_;
  uint64_t malformed_ = 0;
  std::optional<store::SnapshotInfo> info_;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SNAPSHOT_H_
