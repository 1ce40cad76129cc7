#include "daemon/toolkit/tap_recorder.h"

#include <fmt/format.h>

#include <utility>

#include "daemon/toolkit/table.h"
#include "lib/base/number.h"

namespace conductor::toolkit {

Status TapRecorder::Open(const TapOptions& options, const std::function<bool()>& stopped) {
  if (options.record.empty()) return {};
  path_ = options.record;
  auto writer = trace::RecordingWriter::Open(
      {.path = path_, .rotate_bytes = options.rotate_size, .stopped = stopped});
  if (!writer) return tl::unexpected(std::move(writer).error());
  const auto& found = writer->found();
  if (found.recording) TapNote(fmt::format("{} is a recording already; going on with it", path_));
  if (found.truncated_bytes > 0) {
    TapNote(fmt::format("cut off a torn end of {}{} ({})", Counted(found.truncated_bytes, "byte"),
                        found.kept_records > 0
                            ? fmt::format(", but for {}", Counted(found.kept_records, "record"))
                            : "",
                        found.torn));
  }
  found_bytes_ = found.recording ? writer->total_bytes() : 0;
  writer_ = *std::move(writer);
  return {};
}

void TapRecorder::Keep(const Status& status) {
  if (!status && !problem_) problem_ = status.error();
}

void TapRecorder::Add(const trace::RecordedPublisher& publisher) {
  if (!writer_) return;
  const auto number = writer_->AddPublisher(MonoNow(), publisher);
  if (!number) Keep(tl::unexpected(number.error()));
  numbers_.push_back(number.value_or(0));
}

void TapRecorder::Message(int64_t time_ns, uint32_t publisher, bool replayed,
                          std::span<const std::string_view> frames) {
  if (!writer_) return;
  Keep(writer_->Frame(MonoNow(), time_ns, numbers_[publisher], replayed, frames));
}

void TapRecorder::Mark(trace::RecordedMark mark) {
  if (!writer_) return;
  if (mark.publisher < numbers_.size()) mark.publisher = numbers_[mark.publisher];
  Keep(writer_->Mark(MonoNow(), mark));
}

std::optional<MonoTime> TapRecorder::Deadline() const {
  return writer_ ? writer_->Deadline() : std::nullopt;
}

void TapRecorder::Tick(MonoTime now) {
  if (writer_) Keep(writer_->Tick(now));
}

void TapRecorder::Close() {
  if (!writer_ || problem_) return;
  Mark({.time_ns = UnixNanos(), .kind = trace::MarkKind::kEnd});
  Keep(writer_->Close());
}

std::string TapRecorder::Summary() const {
  if (!writer_) return {};
  const uint64_t bytes = writer_->total_bytes() - found_bytes_;
  return fmt::format("recorded {} in {}{}", Counted(bytes, "byte"), path_,
                     writer_->files() > 1 ? fmt::format(", {} files", writer_->files()) : "");
}

}  // namespace conductor::toolkit
