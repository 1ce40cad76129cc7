#include "daemon/toolkit/tap_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "daemon/serve/registration.h"
#include "daemon/toolkit/endpoint_text.h"
#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/recorded_name.h"
#include "daemon/toolkit/table.h"
#include "lib/base/bytes.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

nlohmann::ordered_json FactsOf(const trace::RecordedPublisher& publisher) {
  auto facts = ParseJson(publisher.facts);
  return facts && facts->is_object() ? *std::move(facts) : nlohmann::ordered_json::object();
}

std::string TextOf(const nlohmann::ordered_json& facts, const char* key) {
  const auto at = facts.find(key);
  return at != facts.end() && at->is_string() ? at->get<std::string>() : std::string();
}

TapType TypeOf(trace::MarkKind kind) {
  switch (kind) {
    case trace::MarkKind::kConnected:
      return TapType::kConnected;
    case trace::MarkKind::kDisconnected:
      return TapType::kDisconnected;
    case trace::MarkKind::kReplayEnd:
      return TapType::kReplayEnd;
    case trace::MarkKind::kEnd:
      return TapType::kEnd;
    case trace::MarkKind::kLost:
      break;
  }
  return TapType::kLost;
}

std::string Seconds(double seconds) {
  return seconds < 100 ? fmt::format("{:.1f} s", seconds) : fmt::format("{:.0f} s", seconds);
}

}  // namespace

TapView::TapView(const TapOptions& options, LineOutput& output, const Terminal& terminal)
    : options_(options), output_(output), terminal_(terminal) {
  if (!options.stats) return;
  interval_ = options.interval.value_or(
      terminal.interactive && !options.json ? std::chrono::seconds(1) : std::chrono::seconds(10));
  if (options.conductor.empty() && !IsAddress(options.sources.front())) return;  // at the end
  next_view_ = MonoNow() + interval_;
  first_ns_ = UnixNanos();
}

wire::Dialect TapView::DialectOf(const trace::RecordedPublisher& publisher) const {
  if (options_.type) return *options_.type;
  const auto type = serve::ParsePublisherType(TextOf(FactsOf(publisher), "type"));
  return type.value_or(wire::Dialect::kVllm);
}

uint32_t TapView::Add(const trace::RecordedPublisher& publisher) {
  publishers_.push_back({RecordedName(publisher), wire::Decoder(DialectOf(publisher)), {}});
  const std::string& name = publishers_.back().name;
  publisher_width_ = std::max(publisher_width_, WidthOf(Printable(ShortName(name))));
  columns_.reset();
  stats_.Know(name);
  return static_cast<uint32_t>(publishers_.size() - 1);
}

bool TapView::Knows(uint32_t publisher, uint64_t sequence, std::string_view payload) const {
  return publishers_[publisher].watch.Knows(sequence, payload);
}

std::optional<uint64_t> TapView::last(uint32_t publisher) const {
  return publishers_[publisher].watch.last();
}

std::vector<TapEvent> TapView::Read(Publisher& publisher, const TapEvent& like,
                                    std::span<const std::string_view> frames, std::string& batch) {
  std::vector<TapEvent> events;
  const auto say = [&](TapType type, std::string detail, uint64_t count = 0) {
    TapEvent event = like;
    event.type = type;
    event.detail = std::move(detail);
    event.count = count;
    events.push_back(std::move(event));
  };
  const auto message = ReadMessage(frames, like.replayed);
  if (!message) {
    say(TapType::kMalformed, message.error().Message(), 1);
    return events;
  }
  auto decoded = publisher.decoder.Decode(message->payload);
  const auto verdict = publisher.watch.Judge(
      message->sequence, message->payload,
      decoded ? std::optional(decoded->timestamp) : std::nullopt, like.replayed);
  switch (verdict.kind) {
    case SequenceWatch::Kind::kNext:
    case SequenceWatch::Kind::kLate:
      break;
    case SequenceWatch::Kind::kGap:
      say(TapType::kGap,
          fmt::format("{} missing: {} came, and not {}", Counted(verdict.missing, "message"),
                      message->sequence, verdict.expected),
          verdict.missing);
      break;
    case SequenceWatch::Kind::kRestart:
      say(TapType::kRestart, fmt::format("the sequence begins anew with {} where {} was next",
                                         message->sequence, verdict.expected));
      break;
    case SequenceWatch::Kind::kDuplicate:
      say(TapType::kDuplicate, fmt::format("came before; {} is next", verdict.expected));
      return events;
  }
  if (!decoded) {
    say(TapType::kMalformed, decoded.error().Message(), 1);
    return events;
  }
  batch = fmt::format("batch of {} at {:.3f}", Counted(decoded->events.size(), "event"),
                      decoded->timestamp);
  if (decoded->dp_rank) batch += fmt::format(", rank {}", *decoded->dp_rank);
  if (decoded->events.empty() && decoded->skipped.empty()) say(TapType::kEmpty, "no events");
  for (const wire::KvEvent& of_batch : decoded->events) {
    TapEvent event = Describe(of_batch);
    event.time_ns = like.time_ns;
    event.publisher = like.publisher;
    event.sequence = like.sequence;
    event.replayed = like.replayed;
    if (!event.rank) event.rank = decoded->dp_rank;
    events.push_back(std::move(event));
  }
  for (const wire::Skip& skip : decoded->skips) {
    // A field that is not known is no fault of an event.
    if (skip.reason == wire::SkipReason::kUnknownField) continue;
    say(TapType::kSkipped,
        fmt::format("{} ({})", skip.Describe(), wire::SkipReasonName(skip.reason)), 1);
  }
  return events;
}

void TapView::Message(int64_t time_ns, uint32_t number, bool replayed,
                      std::span<const std::string_view> frames) {
  Publisher& publisher = publishers_[number];
  TapEvent like{.time_ns = time_ns, .publisher = publisher.name, .replayed = replayed};
  if (const auto message = ReadMessage(frames, replayed)) {
    if (message->replay_end) return;
    like.sequence = message->sequence;
    if (options_.from && !replayed && !IsAddress(options_.sources.front()) &&
        message->sequence < *options_.from) {
      return;
    }
  }
  ++messages_;
  if (first_ns_ == 0) first_ns_ = time_ns;
  last_ns_ = time_ns;
  stats_.CountMessage(publisher.name);
  std::string batch;
  const auto events = Read(publisher, like, frames, batch);
  if (!options_.raw) {
    for (const TapEvent& event : events) {
      if (!done()) Event(event);  // what is not printed is not counted
    }
    return;
  }
  bool passes = false;
  for (const TapEvent& event : events) {
    stats_.Count(event);
    passes |= options_.filter.Passes(event);
  }
  if (!passes || done()) return;
  ++counted_;
  if (!options_.quiet) Raw(like, frames, batch, events);
}

void TapView::Mark(const trace::RecordedMark& mark) {
  TapEvent event{.type = TypeOf(mark.kind), .time_ns = mark.time_ns};
  if (mark.publisher < publishers_.size()) event.publisher = publishers_[mark.publisher].name;
  event.count = mark.count;
  event.detail = mark.detail;
  Event(event);
}

void TapView::Event(const TapEvent& event) {
  stats_.Count(event);
  if (first_ns_ == 0) first_ns_ = event.time_ns;
  last_ns_ = event.time_ns;
  if (done() || !options_.filter.Passes(event)) return;
  counted_ += options_.filter.Counts(event);
  if (!options_.quiet && !options_.stats) Print(event);
}

void TapView::Print(const TapEvent& event) {
  if (options_.json) {
    output_.Print(JsonLine(event) + "\n");
    return;
  }
  if (!columns_) {
    // A daemon's publishers are not known before they speak.
    if (publishers_.empty()) publisher_width_ = WidthOf(event.publisher);
    columns_.emplace(terminal_, publisher_width_, publishers_.size() == 1);
    std::string title = columns_->Title() + "\n";
    if (terminal_.interactive && title != title_) output_.Print(title);
    title_ = std::move(title);
  }
  output_.Print(columns_->Line(event) + "\n");
}

void TapView::Raw(const TapEvent& like, std::span<const std::string_view> frames,
                  const std::string& batch, const std::vector<TapEvent>& events) {
  if (options_.json) {
    nlohmann::ordered_json line;
    line["time"] = IsoTime(like.time_ns);
    line["type"] = "message";
    line["publisher"] = like.publisher;
    line["sequence"] = nullptr;
    if (like.sequence) line["sequence"] = *like.sequence;
    line["replayed"] = like.replayed;
    auto& hex = line["frames"] = nlohmann::ordered_json::array();
    for (const std::string_view frame : frames) hex.push_back(ToHex(frame));
    auto& decoded = line["decoded"] = nlohmann::ordered_json::array();
    for (const TapEvent& event : events) {
      decoded.push_back(nlohmann::ordered_json::parse(JsonLine(event)));
    }
    output_.Print(line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
                  "\n");
    return;
  }
  std::vector<std::string> said;
  if (!batch.empty()) said.push_back(batch);
  for (const TapEvent& event : events) {
    const bool bad = !IsBlockEvent(event.type) && event.type != TapType::kEmpty;
    said.push_back(terminal_.Paint(bad ? Colour::kRed : Colour::kPlain, Brief(event)));
  }
  output_.Print(terminal_.Paint(Colour::kBold,
                                fmt::format("{} {} sequence {}{}", IsoTime(like.time_ns),
                                            Printable(like.publisher),
                                            like.sequence ? fmt::format("{}", *like.sequence) : "-",
                                            like.replayed ? ", replayed" : "")) +
                "\n");
  output_.Print(HexDump(frames, said, terminal_));
}

std::optional<MonoTime> TapView::Deadline() const { return next_view_; }

void TapView::Tick(MonoTime now, int64_t now_ns) {
  if (!next_view_ || now < *next_view_) return;
  next_view_ = now + interval_;
  Draw(now_ns);
}

void TapView::Draw(int64_t now_ns) {
  if (options_.quiet) return;
  if (options_.json) {
    output_.Print(stats_.JsonLines(first_ns_, now_ns));
    drawn_ = 1;
    return;
  }
  const std::string table = stats_.Table(terminal_, first_ns_, now_ns);
  std::string text;
  if (terminal_.interactive && drawn_ > 0) {
    text = fmt::format("\x1b[{}A\x1b[J", drawn_);  // over the last one
  } else if (drawn_ > 0) {
    text = "\n";
  }
  output_.Print(text + table);
  drawn_ = static_cast<size_t>(std::ranges::count(table, '\n'));
}

void TapView::Finish(int64_t now_ns) {
  if (!options_.stats) return;
  // Of a moment since the last view rates would say nothing.
  if (drawn_ > 0 && !stats_.changed()) return;
  const bool moment =
      next_view_ && *next_view_ - MonoNow() > interval_ - interval_ / 10 && !options_.json;
  if (drawn_ > 0 && moment) return;
  Draw(next_view_ ? now_ns : last_ns_);
}

std::string TapView::Summary() const {
  const TapStats::Counts total = stats_.total();
  std::string text = Counted(total.events, "event");
  // A daemon's events come without messages.
  if (options_.conductor.empty()) text = Counted(messages_, "message") + ", " + text;
  if (last_ns_ > first_ns_) {
    text += fmt::format(" in {}", Seconds(SecondsBetween(first_ns_, last_ns_)));
  }
  text +=
      fmt::format(": {} stored, {} removed, {} cleared", Counted(total.stored_blocks(), "block"),
                  Grouped(total.removed_blocks()), Grouped(total.cleared));
  const auto fault = [&](uint64_t count, std::string_view what) {
    if (count > 0) text += fmt::format("; {}", Counted(count, what));
  };
  fault(total.gaps, "gap");
  if (total.gaps > 0) text += fmt::format(" ({} missing)", Counted(total.missing, "message"));
  fault(total.restarts, "restart");
  fault(total.duplicates, "duplicate");
  if (total.malformed > 0) text += fmt::format("; {} malformed", Grouped(total.malformed));
  if (total.lost > 0) text += fmt::format("; {} lost", Grouped(total.lost));
  return text;
}

}  // namespace conductor::toolkit
