#include "daemon/toolkit/replay_recording_source.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <utility>
#include <variant>

#include "daemon/serve/registration_json.h"
#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/recorded_name.h"

namespace conductor::toolkit {
namespace {

constexpr double kNanoseconds = 1e9;
constexpr size_t kMostNotes = 16;

// It is read twice, as a pipe cannot be.
Status CheckFile(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode)) return {};
  return Fail("is no file", path, "a recording in a file, which can be read twice");
}

}  // namespace

SourcePublisher DescribedBy(const trace::RecordedPublisher& recorded, const ReadAs& as,
                            std::vector<std::string>& notes) {
  SourcePublisher publisher = Described(RecordedName(recorded), ReadAs());
  publisher.read_as.instance_id = RecordedInstance(recorded);
  const auto parsed = ParseJson(recorded.facts);
  if (parsed && parsed->is_object()) {
    const auto& facts = *parsed;
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
    publisher.model_known = !publisher.read_as.model.empty();
    if (!publisher.model_known) publisher.read_as.model = model;
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
  std::vector<std::string> files = trace::RecordingFiles(paths);
  for (const std::string& file : files) {
    if (auto checked = CheckFile(file); !checked) return tl::unexpected(checked.error());
  }
  auto scanned = trace::RecordingReader::Open(files);
  if (!scanned) return tl::unexpected(std::move(scanned.error()));
  auto reader = trace::RecordingReader::Open(files);
  if (!reader) return tl::unexpected(std::move(reader.error()));
  std::unique_ptr<RecordingSource> source(
      new RecordingSource(std::move(*reader), std::move(files)));
  source->damages_ = trace::MissingEnds(paths);
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
      const bool known = publisher.has_live || publisher.has_answers;
      publisher.has_live = publisher.has_live || !recorded->replayed;
      publisher.has_answers = publisher.has_answers || recorded->replayed;
      if (known && !recorded->replayed) continue;
      if (const auto message = ReadMessage(recorded->frames, recorded->replayed)) {
        publisher.answer_ends += message->replay_end ? 1 : 0;
      }
      if (known) continue;
      Take(*recorded, frame);
      GuessType(publisher, frame);
    } else if (const auto* mark = std::get_if<trace::RecordedMark>(&*item)) {
      const bool ends = mark->kind == trace::MarkKind::kReplayEnd;
      if (ends && mark->publisher < publishers_.size()) {
        publishers_[mark->publisher].answer_ends += 1;
      }
    } else if (const auto* damage = std::get_if<trace::Damage>(&*item)) {
      if (damages_.size() < kMostNotes) damages_.push_back(damage->Describe());
    }
  }
  ShareModel();
  recorded_ = reader.publishers();
  lost_ = {reader.counters().damages, reader.counters().missing_parts};
  bytes_ = reader.bytes_read();
}

void RecordingSource::ShareModel() {
  std::optional<std::string> only;
  for (const SourcePublisher& publisher : publishers_) {
    if (!publisher.model_known) continue;
    if (only && *only != publisher.read_as.model) return;
    only = publisher.read_as.model;
  }
  if (!only) return;
  for (SourcePublisher& publisher : publishers_) {
    publisher.read_as.model = *only;
    publisher.model_known = true;
  }
}

std::vector<std::string> RecordingSource::Notes() const {
  std::vector<std::string> notes = notes_;
  notes.insert(notes.end(), damages_.begin(), damages_.end());
  return notes;
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
  const bool stopped = mark.kind == trace::MarkKind::kEnd;
  if (!stopped && mark.publisher >= publishers_.size()) return false;
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
      frame.kind = SourceFrame::Kind::kAnswerEnd;
      return true;
    case trace::MarkKind::kEnd:
      frame.kind = SourceFrame::Kind::kStopped;
      return true;
  }
  return false;
}

std::optional<double> RecordingSource::Progress() const {
  if (bytes_ == 0) return std::nullopt;
  return static_cast<double>(reader_.bytes_read()) / static_cast<double>(bytes_);
}

}  // namespace conductor::toolkit
