#include "daemon/serve/ingest_events.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "lib/wire/decoder.h"
#include "lib/wire/msgpack_writer.h"

namespace conductor::serve {
namespace {

// As deep as any payload may be; JSON bodies may be deeper.
constexpr int kMaxDepth = 32;

// What an event has for us and not for the index.
constexpr std::string_view kSequence = "sequence";
constexpr std::string_view kTimestamp = "timestamp";

// `value` as it would be on the wire; false where it has no such form.
bool Write(Value value, wire::MsgpackWriter& out, int depth) {
  if (depth > kMaxDepth) return false;
  bool good = true;
  switch (value.kind()) {
    case Value::Kind::kNil:
      out.Nil();
      return true;
    case Value::Kind::kBool:
      out.Bool(*value.AsBool());
      return true;
    case Value::Kind::kInteger:
      if (const auto number = value.AsUint64()) {
        out.Uint(*number);
      } else {
        out.Int(*value.AsInt64());
      }
      return true;
    case Value::Kind::kReal:
      out.Float(*value.AsReal());
      return true;
    case Value::Kind::kText:
      out.Text(*value.AsText());
      return true;
    case Value::Kind::kBytes:
      out.Bytes(*value.AsBytes());
      return true;
    case Value::Kind::kExtension:
      return false;
    case Value::Kind::kArray:
      out.Array(value.size());
      value.ForEachItem([&](Value item) { return good = Write(item, out, depth + 1); });
      return good;
    case Value::Kind::kMap:
      out.Map(value.size());
      value.ForEachEntry([&](std::optional<std::string_view> key, Value item) {
        if (!key) return good = false;
        out.Text(*key);
        return good = Write(item, out, depth + 1);
      });
      return good;
  }
  return false;
}

// The same of an event, without what is not its own.
bool WriteEvent(Value event, wire::MsgpackWriter& out) {
  size_t pairs = 0;
  const auto is_own = [](std::optional<std::string_view> key) {
    return key && *key != kSequence && *key != kTimestamp;
  };
  event.ForEachEntry([&](std::optional<std::string_view> key, Value) {
    pairs += is_own(key) ? 1 : 0;
    return true;
  });
  out.Map(pairs);
  bool good = true;
  event.ForEachEntry([&](std::optional<std::string_view> key, Value value) {
    if (!key) return good = false;
    if (!is_own(key)) return true;
    out.Text(*key);
    return good = Write(value, out, 1);
  });
  return good;
}

// The events of one sequence.
struct Batch {
  uint64_t sequence = 0;
  size_t first = 0;  // position of its first event in the body
  size_t count = 0;
  double timestamp = 0;  // of the first event that has one
  wire::MsgpackWriter events;

  [[nodiscard]] std::string Payload() {
    wire::MsgpackWriter out;
    out.Array(3);
    out.Float(timestamp);
    out.Array(count);
    out.Raw(events.Take());
    out.Nil();
    return out.Take();
  }
};

class BatchReader {
 public:
  BatchReader(RequestBody& body, PublisherType type, std::vector<stream::Intake::Message>& messages,
              std::vector<size_t>& items)
      : body_(body), decoder_(type), messages_(messages), items_(items) {}

  // False after an error.
  bool Take(Value event) {
    const size_t index = taken_++;
    if (event.kind() != Value::Kind::kMap) {
      return Fail("invalid_type", index, fmt::format("is {} (expected a map)", event.KindName()));
    }
    const std::string where = fmt::format("events[{}].", index);
    RequestBody own(event, where, {kSequence, kTimestamp}, RequestBody::Others::kIgnore);
    const auto sequence = own.Integer(kSequence, 0, std::numeric_limits<int64_t>::max());
    if (!own.Get(kSequence)) own.Fail("missing", kSequence, where + "sequence is required");
    const auto timestamp = own.Real(kTimestamp, 0, std::numeric_limits<double>::max());
    if (own.failed()) {
      body_.Fail(*own.error());
      return false;
    }
    const auto number = static_cast<uint64_t>(*sequence);
    if (batch_ && batch_->sequence != number && !End()) return false;
    if (!batch_) batch_ = Batch{.sequence = number, .first = index};
    if (batch_->timestamp == 0) batch_->timestamp = timestamp.value_or(0);
    ++batch_->count;
    if (WriteEvent(event, batch_->events)) return true;
    return Fail("invalid_value", index,
                "holds what no event can (an extension, a key that is no "
                "string, or too many levels)");
  }

  // The batch is complete, if there is one.
  bool End() {
    if (!batch_) return true;
    Batch batch = std::move(*batch_);
    batch_.reset();
    std::string payload = batch.Payload();
    if (!Check(batch, payload)) return false;
    messages_.push_back({"", batch.sequence, std::move(payload)});
    items_.push_back(batch.first + batch.count);
    return true;
  }

 private:
  bool Check(const Batch& batch, const std::string& payload) {
    const auto read = decoder_.Decode(payload);
    if (!read) return Fail("invalid_value", batch.first, read.error().Message());
    const auto unused = std::ranges::find_if(read->skips, [](const wire::Skip& skip) {
      return skip.reason != wire::SkipReason::kNotLocal;
    });
    if (unused == read->skips.end()) return true;
    const bool unknown = unused->reason == wire::SkipReason::kUnknownField;
    return Fail(unknown ? "unknown_field" : "invalid_value", batch.first + unused->event_index,
                unused->message);
  }
  bool Fail(std::string reason, size_t index, std::string_view what) {
    body_.Fail(std::move(reason), "events", fmt::format("events[{}]: {}", index, what), index);
    return false;
  }

  RequestBody& body_;
  wire::Decoder decoder_;
  std::vector<stream::Intake::Message>& messages_;
  std::vector<size_t>& items_;
  std::optional<Batch> batch_;
  size_t taken_ = 0;
};

}  // namespace

void ReadIngestEvents(RequestBody& body, Value events, PublisherType type,
                      std::vector<stream::Intake::Message>& messages, std::vector<size_t>& items) {
  BatchReader reader(body, type, messages, items);
  bool good = true;
  events.ForEachItem([&](Value event) { return good = reader.Take(event); });
  if (good) (void)reader.End();
}

}  // namespace conductor::serve
