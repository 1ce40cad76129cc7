#include "daemon/toolkit/replay_snapshot.h"

#include <fmt/format.h>

#include <utility>

#include "daemon/serve/snapshots.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr size_t kMessagesAtOnce = 1024;

}  // namespace

Result<std::unique_ptr<SnapshotSink>> SnapshotSink::Open(
    const std::string& path, const std::vector<SourcePublisher>& publishers, NewFile::Over over) {
  auto file = NewFile::Begin(path, over);
  if (!file) return tl::unexpected(std::move(file.error()));
  return std::unique_ptr<SnapshotSink>(new SnapshotSink(*std::move(file), path, publishers));
}

SnapshotSink::SnapshotSink(NewFile file, std::string path,
                           const std::vector<SourcePublisher>& publishers)
    : file_(std::move(file)), path_(std::move(path)) {
  for (const SourcePublisher& publisher : publishers) {
    lanes_.push_back({.publisher = publisher, .messages = {}});
  }
}

Status SnapshotSink::Take(const SourceFrame& frame) {
  if (!frame.IsMessage()) return {};
  const auto message = frame.Message();
  if (!message) {
    ++malformed_;
    return {};
  }
  Lane& lane = lanes_.at(frame.publisher);
  if (!std::exchange(lane.heard, true)) GuessType(lane.publisher, frame);
  lane.messages.push_back({.topic = std::string(message->topic),
                           .sequence = message->sequence,
                           .payload = std::string(message->payload)});
  return lane.messages.size() < kMessagesAtOnce ? Status() : Feed(lane);
}

Status SnapshotSink::Feed(Lane& lane) {
  if (lane.messages.empty()) return {};
  auto fed = conductor_.Feed(lane.publisher.read_as, lane.messages);
  lane.messages.clear();
  return fed;
}

Status SnapshotSink::Finish() {
  for (Lane& lane : lanes_) {
    if (auto fed = Feed(lane); !fed) return fed;
  }
  if (auto settled = conductor_.Settle(); !settled) return settled;
  auto report = serve::SaveRegistry(conductor_.registry(), file_.temporary());
  if (!report) return tl::unexpected(std::move(report.error()));
  if (auto done = file_.Commit(); !done) return done;
  info_ = std::move(report->info);
  info_->path = path_;
  return {};
}

std::vector<std::string> SnapshotSink::Notes() const {
  std::vector<std::string> notes;
  if (info_) {
    notes.push_back(fmt::format("saved {} of {} as {}", Counted(info_->holdings, "holding"),
                                Counted(info_->publishers, "publisher"), path_));
  }
  if (malformed_ > 0) {
    notes.push_back(
        fmt::format("{} left out: no topic, sequence and payload", Counted(malformed_, "message")));
  }
  return notes;
}

}  // namespace conductor::toolkit
