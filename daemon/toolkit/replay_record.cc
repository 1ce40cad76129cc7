#include "daemon/toolkit/replay_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "lib/base/clock.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr double kNanoseconds = 1e9;
constexpr double kLatest = 9e9;  // Unix seconds; in nanoseconds it fits 64 bits

int64_t Nanoseconds(double at) { return std::llround(std::clamp(at, 0.0, kLatest) * kNanoseconds); }

trace::MarkKind MarkOf(SourceFrame::Kind kind) {
  switch (kind) {
    case SourceFrame::Kind::kConnected:
      return trace::MarkKind::kConnected;
    case SourceFrame::Kind::kDisconnected:
      return trace::MarkKind::kDisconnected;
    case SourceFrame::Kind::kAnswerEnd:
      return trace::MarkKind::kReplayEnd;
    default:
      return trace::MarkKind::kLost;
  }
}

// What reading the recording needs.
std::string FactsOf(const SourcePublisher& publisher) {
  const serve::Registration& as = publisher.read_as;
  nlohmann::ordered_json facts;
  if (publisher.type_known) facts["type"] = serve::PublisherTypeName(as.type);
  facts["instance_id"] = as.instance_id;
  facts["model"] = as.model;
  facts["tenant_id"] = as.tenant;
  if (!as.lora_name.empty()) facts["lora_name"] = as.lora_name;
  if (!as.additional_salt.empty()) facts["additional_salt"] = as.additional_salt;
  if (as.block_size > 0) facts["block_size"] = as.block_size;
  if (as.dp_rank > 0) facts["dp_rank"] = as.dp_rank;
  if (as.copies == index::CopyMode::kSet) facts["copies"] = "set";
  return facts.dump();
}

}  // namespace

Result<std::unique_ptr<RecordSink>> RecordSink::Open(
    const Options& options, const std::vector<SourcePublisher>& publishers) {
  auto writer =
      trace::RecordingWriter::Open({.path = options.path, .rotate_bytes = options.rotate_bytes});
  if (!writer) return tl::unexpected(std::move(writer.error()));
  return std::unique_ptr<RecordSink>(new RecordSink(std::move(*writer), options.path, publishers));
}

RecordSink::RecordSink(trace::RecordingWriter writer, std::string path,
                       std::vector<SourcePublisher> publishers)
    : writer_(std::move(writer)),
      path_(std::move(path)),
      publishers_(std::move(publishers)),
      numbers_(publishers_.size()) {}

Result<uint32_t> RecordSink::NumberOf(uint32_t publisher) {
  std::optional<uint32_t>& number = numbers_.at(publisher);
  if (number) return *number;
  const SourcePublisher& of = publishers_[publisher];
  auto added = writer_.AddPublisher(MonoNow(), {.endpoint = of.has_live ? of.name : "",
                                                .replay_endpoint = of.has_live ? "" : of.name,
                                                .facts = FactsOf(of)});
  if (added) number = *added;
  return added;
}

Status RecordSink::Take(const SourceFrame& frame) {
  stopped_ = frame.kind == SourceFrame::Kind::kStopped;
  last_ns_ = Nanoseconds(frame.at);
  if (stopped_) return writer_.Mark(MonoNow(), {.time_ns = last_ns_});
  const auto publisher = NumberOf(frame.publisher);
  if (!publisher) return tl::unexpected(publisher.error());
  if (!frame.IsMessage()) {
    return writer_.Mark(MonoNow(), {.time_ns = last_ns_,
                                    .publisher = *publisher,
                                    .kind = MarkOf(frame.kind),
                                    .count = frame.count});
  }
  ++messages_;
  const std::vector<std::string_view> views(frame.frames.begin(), frame.frames.end());
  const bool replayed = frame.kind == SourceFrame::Kind::kAnswer;
  return writer_.Frame(MonoNow(), last_ns_, *publisher, replayed, views);
}

Status RecordSink::Finish() {
  if (!stopped_) {
    if (auto marked = writer_.Mark(MonoNow(), {.time_ns = last_ns_}); !marked) return marked;
  }
  return writer_.Close();
}

std::vector<std::string> RecordSink::Notes() const {
  std::vector<std::string> notes;
  if (writer_.found().recording) {
    notes.push_back(fmt::format("{} was there, and is gone on with", path_));
  }
  notes.push_back(fmt::format("wrote {} to {}, {}", Counted(messages_, "message"), path_,
                              Counted(writer_.total_bytes(), "byte")));
  return notes;
}

}  // namespace conductor::toolkit
