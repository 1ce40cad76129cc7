#include "daemon/toolkit/tap_event.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "daemon/toolkit/json_text.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr std::array<std::pair<TapType, std::string_view>, 18> kNames = {{
    {TapType::kStored, "stored"},
    {TapType::kRemoved, "removed"},
    {TapType::kCleared, "cleared"},
    {TapType::kEmpty, "empty"},
    {TapType::kGap, "gap"},
    {TapType::kRestart, "restart"},
    {TapType::kDuplicate, "duplicate"},
    {TapType::kMalformed, "malformed"},
    {TapType::kSkipped, "skipped"},
    {TapType::kConnected, "connected"},
    {TapType::kDisconnected, "disconnected"},
    {TapType::kLost, "lost"},
    {TapType::kReplayEnd, "replay_end"},
    {TapType::kEnd, "end"},
    {TapType::kDamage, "damage"},
    {TapType::kLife, "life"},
    {TapType::kRebuild, "rebuild"},
    {TapType::kTrust, "trust"},
}};

constexpr int64_t kSecond = 1'000'000'000;
constexpr size_t kTimeWidth = 12;
constexpr size_t kRankWidth = 4;
constexpr size_t kTierWidth = 4;
constexpr size_t kBlocksWidth = 6;
constexpr size_t kLoraWidth = 4;  // at least

std::string Hex(EngineHash hash) { return fmt::format("{:016x}", static_cast<uint64_t>(hash)); }
std::string Decimal(EngineHash hash) { return fmt::format("{}", static_cast<uint64_t>(hash)); }

struct Describer {
  TapEvent line;

  void Place(const std::optional<std::string>& medium, bool nil_is_device) {
    line.medium = medium;
    if (medium || nil_is_device) line.tier = TierOfMedium(medium.value_or(""));
  }
  void Origin(const std::optional<wire::Origin>& origin) {
    if (origin) line.rank = origin->dp_rank;
  }

  void operator()(const wire::BlockStored& event) {
    line.type = TapType::kStored;
    Place(event.medium, true);
    Origin(event.origin);
    line.lora = event.lora_name.value_or(event.lora_id ? fmt::format("{}", *event.lora_id) : "");
    line.group = event.group.index;
    line.block_size = event.block_size;
    line.blocks = event.hashes.size();
    line.tokens = event.tokens.size();
    const size_t shown = std::min(event.tokens.size(), TapEvent::kFirstTokens);
    line.first_tokens.assign(event.tokens.begin(),
                             event.tokens.begin() + static_cast<ptrdiff_t>(shown));
    line.parent = event.parent;
    line.hashes = event.hashes;
  }
  void operator()(const wire::BlockRemoved& event) {
    line.type = TapType::kRemoved;
    Place(event.medium, true);
    Origin(event.origin);
    line.group = event.group.index;
    line.blocks = event.hashes.size();
    line.hashes = event.hashes;
  }
  void operator()(const wire::AllBlocksCleared&) {
    line.type = TapType::kCleared;
    line.tier = Tier::kGpu;
  }
  void operator()(const wire::ObjectStored& event) {
    line.type = TapType::kStored;
    Place(event.medium, false);
    line.object = event.key;
    line.blocks = 1;
  }
  void operator()(const wire::ObjectRemoved& event) {
    line.type = TapType::kRemoved;
    line.medium = event.medium;
    line.object = event.key;
    line.blocks = 1;
  }
  void operator()(const wire::ScopeCleared& event) {
    line.type = TapType::kCleared;
    Place(event.medium, false);
    line.rank = event.dp_rank;
  }
};

// Seconds, and the nanoseconds behind them, which are not negative before 1970 either.
std::pair<std::time_t, int64_t> Split(int64_t time_ns) {
  const int64_t rest = (time_ns % kSecond + kSecond) % kSecond;
  return {time_ns / kSecond - (time_ns % kSecond < 0 ? 1 : 0), rest};
}

// Local time of day, as people look for it on a terminal.
std::string Clock(int64_t time_ns) {
  const auto [seconds, nanos] = Split(time_ns);
  std::tm local{};
  localtime_r(&seconds, &local);
  return fmt::format("{:02}:{:02}:{:02}.{:03}", local.tm_hour, local.tm_min, local.tm_sec,
                     nanos / 1'000'000);
}

Colour ColourOf(TapType type) {
  switch (type) {
    case TapType::kGap:
    case TapType::kRestart:
    case TapType::kMalformed:
    case TapType::kSkipped:
    case TapType::kLost:
    case TapType::kDamage:
      return Colour::kRed;
    case TapType::kStored:
      return Colour::kGreen;
    case TapType::kRemoved:
      return Colour::kYellow;
    case TapType::kCleared:
    case TapType::kLife:
      return Colour::kCyan;
    default:
      return Colour::kDim;
  }
}

std::string TierText(const TapEvent& event) {
  if (event.tier) return std::string(TierName(*event.tier));
  return event.medium ? Printable(*event.medium) : "all";
}

std::string FirstTokens(const TapEvent& event) {
  if (event.tokens == 0) return "-";
  std::string text;
  for (const TokenId token : event.first_tokens) {
    text += fmt::format("{}{}", text.empty() ? "" : " ", token);
  }
  if (event.first_tokens.size() < event.tokens) text += text.empty() ? "…" : " …";
  return text;
}

std::string Pad(std::string_view text, size_t width) {
  std::string cell = Cut(text, width);
  cell.append(width - WidthOf(cell), ' ');
  return cell;
}

// What is longer stays as it is.
std::string PadRight(std::string_view text, size_t width) {
  const size_t has = WidthOf(text);
  return std::string(text) + std::string(has < width ? width - has : 0, ' ');
}

std::string PadLeft(std::string_view text, size_t width) {
  const size_t has = WidthOf(text);
  return has < width ? std::string(width - has, ' ') + std::string(text) : std::string(text);
}

std::string NumberText(const auto& number) {
  return number ? fmt::format("{}", *number) : std::string("-");
}

std::optional<EngineHash> HashOf(const nlohmann::ordered_json& value) {
  if (!value.is_string()) return std::nullopt;
  const auto number = ParseNumber(value.get_ref<const std::string&>(), "a hash", 0, UINT64_MAX);
  if (!number) return std::nullopt;
  return EngineHash{*number};
}

std::string TextOf(const nlohmann::ordered_json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

template <typename T>
std::optional<T> IntegerOf(const nlohmann::ordered_json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number_integer()) return std::nullopt;
  return at->get<T>();
}

}  // namespace

std::string_view TapTypeName(TapType type) {
  return std::ranges::find(kNames, type, &decltype(kNames)::value_type::first)->second;
}

Result<TapType> ParseTapType(std::string_view text) {
  std::string known;
  for (const auto& [type, name] : kNames) {
    if (name == text) return type;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
  }
  return Fail(fmt::format("'{}' is no type", text), {}, known);
}

TapEvent Describe(const wire::KvEvent& event) {
  Describer describer;
  std::visit(describer, event);
  return std::move(describer.line);
}

Result<TapEvent> FromDaemon(std::string_view json, int64_t time_ns) {
  const auto parsed = ParseJson(json);
  if (!parsed || !parsed->is_object()) return Fail("an event of the daemon is no JSON object");
  const nlohmann::ordered_json& data = *parsed;
  auto type = ParseTapType(TextOf(data, "type"));
  if (!type) return tl::unexpected(std::move(type).error());
  TapEvent event{.type = *type, .time_ns = time_ns, .publisher = TextOf(data, "publisher")};
  event.sequence = IntegerOf<uint64_t>(data, "sequence");
  event.rank = IntegerOf<int64_t>(data, "dp_rank");
  const std::string tier = TextOf(data, "tier");
  for (const Tier known : kTiers) {
    if (tier == TierName(known)) event.tier = known;
  }
  if (const std::string medium = TextOf(data, "medium"); !medium.empty()) event.medium = medium;
  event.lora = TextOf(data, "lora_name");
  event.group = IntegerOf<int64_t>(data, "cache_group");
  event.block_size = IntegerOf<uint64_t>(data, "block_size").value_or(0);
  event.tokens = IntegerOf<uint64_t>(data, "tokens").value_or(0);
  event.object = TextOf(data, "object");
  event.blocks = IntegerOf<uint64_t>(data, "blocks").value_or(event.object.empty() ? 0 : 1);
  if (const auto parent = data.find("parent"); parent != data.end()) event.parent = HashOf(*parent);
  if (const auto hashes = data.find("hashes"); hashes != data.end() && hashes->is_array()) {
    for (const auto& value : *hashes) {
      if (const auto hash = HashOf(value)) event.hashes.push_back(*hash);
    }
  }
  event.count = IntegerOf<uint64_t>(data, "events").value_or(0);
  for (const char* key : {"phase", "state", "reason", "detail"}) {
    const std::string text = TextOf(data, key);
    if (!text.empty()) event.detail += fmt::format("{}{}", event.detail.empty() ? "" : ": ", text);
  }
  return event;
}

std::string IsoTime(int64_t time_ns) {
  const auto [seconds, nanos] = Split(time_ns);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     nanos / 1000);
}

double SecondsBetween(int64_t begin_ns, int64_t end_ns) {
  // Without a sign no difference is too large.
  const auto apart = [](int64_t less, int64_t more) {
    return static_cast<double>(static_cast<uint64_t>(more) - static_cast<uint64_t>(less)) / 1e9;
  };
  return begin_ns <= end_ns ? apart(begin_ns, end_ns) : -apart(end_ns, begin_ns);
}

std::string JsonLine(const TapEvent& event) {
  nlohmann::ordered_json line;
  const auto maybe = [&line](const char* key, const auto& value) {
    line[key] = nullptr;
    if (value) line[key] = *value;
  };
  line["time"] = IsoTime(event.time_ns);
  line["type"] = TapTypeName(event.type);
  line["publisher"] = event.publisher;
  maybe("sequence", event.sequence);
  line["replayed"] = event.replayed;
  if (!IsBlockEvent(event.type)) {
    line["count"] = event.count;
    line["detail"] = event.detail;
    return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }
  maybe("rank", event.rank);
  maybe("tier", event.tier ? std::optional(TierName(*event.tier)) : std::nullopt);
  maybe("medium", event.medium);
  if (event.type != TapType::kCleared) {
    line["blocks"] = event.blocks;
    if (!event.object.empty()) {
      line["object"] = event.object;
    } else {
      maybe("cache_group", event.group);
      auto& hashes = line["hashes"] = nlohmann::ordered_json::array();
      for (const EngineHash hash : event.hashes) hashes.push_back(Decimal(hash));
    }
  }
  if (event.type == TapType::kStored && event.object.empty()) {
    maybe("parent", event.parent ? std::optional(Decimal(*event.parent)) : std::nullopt);
    line["block_size"] = event.block_size;
    line["tokens"] = event.tokens;
    line["first_tokens"] = event.first_tokens;
    line["lora_name"] = event.lora;
  }
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string_view ShortName(std::string_view publisher) {
  constexpr std::string_view kTcp = "tcp://";
  return publisher.starts_with(kTcp) ? publisher.substr(kTcp.size()) : publisher;
}

std::string Brief(const TapEvent& event) {
  std::string text(TapTypeName(event.type));
  if (!IsBlockEvent(event.type)) {
    return event.detail.empty() ? text : fmt::format("{}: {}", text, Printable(event.detail));
  }
  text += " " + TierText(event);
  if (event.rank) text += fmt::format(" rank {}", *event.rank);
  if (!event.object.empty()) return text + " object " + Printable(event.object);
  if (event.type == TapType::kCleared) return text;
  text += " " + Counted(event.blocks, "block");
  for (size_t i = 0; i < std::min<size_t>(event.hashes.size(), 2); ++i) {
    text += " " + Hex(event.hashes[i]);
  }
  if (event.hashes.size() > 2) text += " …";
  if (event.type == TapType::kRemoved) return text;
  text += event.parent ? " after " + Hex(*event.parent) : " at the root";
  text += fmt::format(", {} {}", Counted(event.tokens, "token"), FirstTokens(event));
  if (!event.lora.empty()) text += ", lora " + Printable(event.lora);
  return text;
}

TapColumns::TapColumns(const Terminal& terminal, size_t publisher_width, bool alone)
    : terminal_(terminal), publisher_width_(std::clamp<size_t>(publisher_width, 9, 28)) {
  if (terminal.width == 0) return;
  publisher_ = !alone || Width() <= terminal.width;
  Narrow(tokens_width_, 11);
  Narrow(hash_width_, 8);
  Narrow(publisher_width_, 14);
  Narrow(type_width_, 8);
  if (Width() > terminal.width) between_ = " ";
  Narrow(publisher_width_, 8);
  Narrow(sequence_width_, 6);
  Narrow(tokens_width_, 6);
  Narrow(hash_width_, 6);
}

size_t TapColumns::Width() const {
  const size_t publisher = publisher_ ? publisher_width_ + between_.size() : 0;
  return publisher + kTimeWidth + sequence_width_ + kRankWidth + type_width_ + kTierWidth +
         kBlocksWidth + 2 * hash_width_ + tokens_width_ + kLoraWidth + 9 * between_.size();
}

void TapColumns::Narrow(size_t& width, size_t least) {
  while (width > least && Width() > terminal_.width) --width;
}

std::string TapColumns::Front(std::string_view time, std::string_view publisher,
                              std::string_view sequence, std::string_view rank,
                              std::string_view type) const {
  std::string front = Pad(time, kTimeWidth) + between_;
  if (publisher_) {
    front += Pad(CutBeginning(publisher, publisher_width_), publisher_width_) + between_;
  }
  return front + PadLeft(sequence, sequence_width_) + between_ + PadLeft(rank, kRankWidth) +
         between_ + PadRight(type, type_width_);
}

std::string TapColumns::Title() const {
  const std::string title = fmt::format(
      "{1}{0}{2}{0}{3}{0}{4}{0}{5}{0}{6}{0}{7}", between_,
      Front("TIME", "PUBLISHER", "SEQ", "RANK", "TYPE"), Pad("TIER", kTierWidth),
      PadLeft("BLOCKS", kBlocksWidth), Pad(hash_width_ < 11 ? "FIRST" : "FIRST BLOCK", hash_width_),
      Pad("PARENT", hash_width_), Pad("TOKENS", tokens_width_), "LORA");
  return terminal_.Paint(Colour::kBold, terminal_.width > 0 ? Cut(title, terminal_.width) : title);
}

std::string TapColumns::Line(const TapEvent& event) const {
  const std::string type(TapTypeName(event.type));
  std::string line = Front(
      Clock(event.time_ns), Printable(ShortName(event.publisher)), NumberText(event.sequence),
      IsBlockEvent(event.type) ? NumberText(event.rank) : "-", type + (event.replayed ? "*" : ""));
  if (!IsBlockEvent(event.type)) {
    line += between_ + Printable(event.detail);
  } else {
    std::string block = "-";
    if (!event.object.empty()) {
      block = Printable(event.object);
    } else if (!event.hashes.empty()) {
      block = Hex(event.hashes.front());
    }
    const bool stored = event.type == TapType::kStored && event.object.empty();
    const std::string parent = event.parent ? Hex(*event.parent) : stored ? "root" : "-";
    line +=
        fmt::format("{0}{1}{0}{2}{0}{3}", between_, Pad(TierText(event), kTierWidth),
                    PadLeft(event.type == TapType::kCleared ? "-" : fmt::format("{}", event.blocks),
                            kBlocksWidth),
                    event.object.empty() ? Pad(block, hash_width_) : block);
    if (event.object.empty()) {
      line += fmt::format("{0}{1}{0}{2}{0}{3}", between_, Pad(parent, hash_width_),
                          Pad(stored ? FirstTokens(event) : "-", tokens_width_),
                          event.lora.empty() ? "-" : Printable(event.lora));
    }
  }
  line.erase(line.find_last_not_of(' ') + 1);
  if (terminal_.width > 0) line = Cut(line, terminal_.width);
  return terminal_.Paint(ColourOf(event.type), line);
}

}  // namespace conductor::toolkit
