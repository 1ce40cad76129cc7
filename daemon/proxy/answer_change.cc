#include "daemon/proxy/answer_change.h"

#include <utility>

namespace conductor::proxy {
namespace {

// Of an answer, or an event, that waits for its end. What is longer passes as it comes.
constexpr size_t kMostPending = 16 << 20;

}  // namespace

std::string_view EventDocument(std::string_view line) {
  constexpr std::string_view kData = "data:";
  if (!line.starts_with(kData)) return {};
  line.remove_prefix(kData.size());
  const size_t begin = line.find_first_not_of(' ');
  if (begin == line.npos || line[begin] != '{') return {};
  return line.substr(begin, line.find_last_not_of("\r\n") + 1 - begin);
}

void AnswerChange::Begin(ResponseHead& head) {
  is_stream_ = head.fields.Get("Content-Type").starts_with("text/event-stream");
  head.body_end = BodyEnd::kChunked;
}

std::string AnswerChange::Take(std::string_view piece) {
  pending_.append(piece);
  passes_ = passes_ || pending_.size() > kMostPending;
  if (passes_) return std::exchange(pending_, {});
  if (!is_stream_) return piece.empty() ? Through(std::exchange(pending_, {})) : std::string();
  std::string out;
  size_t at = 0;
  for (size_t from = searched_; !is_interrupted_; from = at) {
    const size_t end = pending_.find('\n', from);
    if (end == std::string::npos) break;
    out += TakeLine(std::string_view(pending_).substr(at, end + 1 - at));
    at = end + 1;
  }
  pending_.erase(0, at);
  searched_ = pending_.size();
  // Behind the last event nothing should come; what does is the engine's.
  if (piece.empty() && !is_interrupted_) out += std::exchange(pending_, {});
  return out;
}

std::string AnswerChange::TakeLine(std::string_view line) {
  const std::string_view document = EventDocument(line);
  if (document.empty()) return std::string(line);
  const auto before = static_cast<size_t>(document.data() - line.data());
  const std::string changed = Through(document);
  if (is_interrupted_) return {};
  return std::string(line.substr(0, before))
      .append(changed)
      .append(line.substr(before + document.size()));
}

std::string AnswerChange::Through(std::string_view document) {
  auto changed = Changed(document, is_stream_);
  is_interrupted_ = !changed;
  return changed ? *std::move(changed) : std::string();
}

}  // namespace conductor::proxy
