#include "lib/trace/recording_survey.h"

#include <string_view>
#include <utility>

#include "lib/trace/recording_blocks.h"

namespace conductor::trace {
namespace {

// Appends the whole records that `piece` begins with to what is kept.
uint32_t Keep(std::string_view piece, std::string& kept) {
  uint32_t count = 0;
  while (!piece.empty()) {
    const std::string_view before = piece;
    if (!TakeRecord(piece)) break;
    kept += before.substr(0, before.size() - piece.size());
    ++count;
  }
  return count;
}

}  // namespace

Result<RecordingSurvey> SurveyRecording(ReadBytes read, const std::string& path,
                                        const std::function<bool()>& stopped) {
  RecordingBlocks blocks(std::move(read), path, RecordingBlocks::Contents::kDamagedOnly);
  if (auto header = blocks.ReadHeader(); !header) return tl::unexpected(std::move(header).error());
  RecordingSurvey survey;
  while (auto piece = blocks.Next()) {
    if (stopped && stopped()) {
      return Fail("was stopped while it looked through what is recorded already", path);
    }
    if (piece->whole) {
      survey = {.has_blocks = true};
      continue;
    }
    const uint32_t kept = Keep(piece->records, survey.records);
    survey.record_count += kept;
    if (!piece->damage) continue;
    if (piece->claimed > kept) piece->damage->records = piece->claimed - kept;
    survey.torn = piece->damage->Describe();
  }
  if (blocks.read_failure()) return tl::unexpected(*blocks.read_failure());
  survey.whole_bytes = blocks.whole_bytes();
  return survey;
}

}  // namespace conductor::trace
