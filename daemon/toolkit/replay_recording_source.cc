#include "daemon/toolkit/replay_recording_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <variant>

#include "daemon/serve/registration_json.h"

namespace conductor::toolkit {
namespace {

constexpr double kNanoseconds = 1e9;
constexpr size_t kMostNotes = 16;

// All files of the recordings, each once.
std::vector<std::string> AllFiles(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    for (std::string& file : trace::RecordingFiles(path)) {
      if (std::ranges::find(files, file) == files.end()) files.push_back(std::move(file));
    }
  }
  return files;
}

}  // namespace

SourcePublisher DescribedBy(const trace::RecordedPublisher& recorded, const ReadAs& as,
                            std::vector<std::string>& notes) {
  SourcePublisher publisher =
      Described(recorded.endpoint.empty() ? recorded.replay_endpoint : recorded.endpoint, ReadAs());
  const auto facts = nlohmann::ordered_json::parse(recorded.facts, nullptr, false);
  if (facts.is_object()) {
    const std::string model = publisher.read_as.model;
    auto fields = serve::ReadRegistration(facts, publisher.read_as.instance_id);
    for (const serve::FieldProblem& problem : fields.problems) {
      if (problem.reason == "missing") continue;  // it is no registration
      notes.push_back(fmt::format("{}: {} {} (expected {})", publisher.name, problem.field.Dotted(),
                                  problem.what, problem.expected));
    }
    publisher.read_as = std::move(fields.registration);
    publisher.read_as.mode = stream::ListenMode::kIngest;
    publisher.read_as.endpoint.clear();
    publisher.read_as.replay_endpoint.clear();
    if (publisher.read_as.model.empty()) publisher.read_as.model = model;
    publisher.type_known = facts.contains("type");
  } else if (!recorded.facts.empty()) {
    notes.push_back(
        fmt::format("{}: what the recording says of it is no JSON object", publisher.name));
  }
  Override(publisher, as);
  return publisher;
}

Result<std::unique_ptr<RecordingSource>> RecordingSource::Open(
    const std::vector<std::string>& paths, const ReadAs& as) {
  const std::vector<std::string> files = AllFiles(paths);
  auto scanned = trace::RecordingReader::Open(files);
  if (!scanned) return tl::unexpected(std::move(scanned.error()));
  auto reader = trace::RecordingReader::Open(files);
  if (!reader) return tl::unexpected(std::move(reader.error()));
  std::unique_ptr<RecordingSource> source(new RecordingSource(std::move(*reader)));
  source->Scan(*scanned, as);
  return source;
}

void RecordingSource::Scan(trace::RecordingReader& reader, const ReadAs& as) {
  SourceFrame frame;
  while (const auto item = reader.Next()) {
    if (const auto* added = std::get_if<trace::RecordingReader::NewPublisher>(&*item)) {
      publishers_.push_back(DescribedBy(reader.publishers().at(added->number), as, notes_));
    } else if (const auto* recorded = std::get_if<trace::RecordedFrame>(&*item)) {
      SourcePublisher& publisher = publishers_.at(recorded->publisher);
      const bool known = publisher.has_live || publisher.has_whole_answer;
      if (known && !recorded->replayed) continue;
      Take(*recorded, frame);
      if (!known) GuessType(publisher, frame);
      publisher.has_live = publisher.has_live || !recorded->replayed;
      publisher.has_whole_answer = publisher.has_whole_answer || frame.IsEnd();
    } else if (const auto* damage = std::get_if<trace::Damage>(&*item)) {
      if (notes_.size() < kMostNotes) notes_.push_back(damage->Describe());
    }
  }
  bytes_ = reader.bytes_read();
}

Result<bool> RecordingSource::Next(SourceFrame& frame) {
  while (const auto item = reader_.Next()) {
    if (const auto* recorded = std::get_if<trace::RecordedFrame>(&*item)) {
      Take(*recorded, frame);
      return true;
    } else if (const auto* mark = std::get_if<trace::RecordedMark>(&*item)) {
      if (Take(*mark, frame)) return true;
    }
  }
  return false;
}

void RecordingSource::Take(const trace::RecordedFrame& recorded, SourceFrame& frame) {
  frame = {.publisher = recorded.publisher,
           .kind = recorded.replayed ? SourceFrame::Kind::kAnswer : SourceFrame::Kind::kLive,
           .at = static_cast<double>(recorded.received_ns) / kNanoseconds};
  frame.frames.assign(recorded.frames.begin(), recorded.frames.end());
}

bool RecordingSource::Take(const trace::RecordedMark& mark, SourceFrame& frame) const {
  if (mark.publisher >= publishers_.size()) return false;
  frame = {.publisher = mark.publisher,
           .at = static_cast<double>(mark.time_ns) / kNanoseconds,
           .count = mark.count};
  switch (mark.kind) {
    case trace::MarkKind::kConnected:
      frame.kind = SourceFrame::Kind::kConnected;
      return true;
    case trace::MarkKind::kDisconnected:
      frame.kind = SourceFrame::Kind::kDisconnected;
      return true;
    case trace::MarkKind::kLost:
      frame.kind = SourceFrame::Kind::kLost;
      return true;
    case trace::MarkKind::kReplayEnd:
    case trace::MarkKind::kEnd:
      return false;
  }
  return false;
}

std::optional<double> RecordingSource::Progress() const {
  if (bytes_ == 0) return std::nullopt;
  return static_cast<double>(reader_.bytes_read()) / static_cast<double>(bytes_);
}

}  // namespace conductor::toolkit
