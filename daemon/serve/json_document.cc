#include "daemon/serve/json_document.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxMessageBytes = 200;
constexpr size_t kMaxShownBytes = 60;

// At most `limit` bytes of UTF-8 `text`, never half a character.
std::string Clipped(std::string_view text, size_t limit) {
  if (text.size() <= limit) return std::string(text);
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) --limit;
  return std::string(text.substr(0, limit)) + "...";
}

// "line L, column C" of the byte at `offset`, both from 1.
std::string LineAndColumn(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const size_t line = static_cast<size_t>(std::ranges::count(before, '\n')) + 1;
  const size_t newline = before.rfind('\n');
  const size_t column = before.size() - (newline == std::string_view::npos ? 0 : newline + 1) + 1;
  return fmt::format("line {}, column {}", line, column);
}

// nlohmann's message without its exception id and place, which we tell ourselves.
std::string_view PlainReason(std::string_view message) {
  if (const size_t id = message.find("] "); message.starts_with("[json.") && id != message.npos) {
    message.remove_prefix(id + 2);
  }
  if (const size_t place = message.find(": ");
      message.starts_with("parse error at line") && place != message.npos) {
    message.remove_prefix(place + 2);
  }
  return message;
}

// Builds the document from the parser's events. Depth is bounded, and so the frames never move:
// the pointers into them and into the containers that are still open stay good.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(std::string_view text) : text_(text) { frames_.reserve(kMaxJsonDepth); }

  [[nodiscard]] JsonDocument Take() { return std::move(document_); }
  [[nodiscard]] std::optional<Error> TakeError() { return std::move(error_); }

  bool null() override { return Put(nullptr); }
  bool boolean(bool value) override { return Put(value); }
  bool number_integer(number_integer_t value) override { return Put(value); }
  bool number_unsigned(number_unsigned_t value) override { return Put(value); }
  bool number_float(number_float_t value, const string_t&) override { return Put(value); }
  bool string(string_t& value) override { return Put(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // JSON has none

  bool start_object(std::size_t) override { return Open(Json::object()); }
  bool start_array(std::size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    Frame& frame = frames_.back();
    frame.key = key;
    if (frame.keys.insert(key).second) {
      // Past ordered_map's own insertion, which looks through all members first.
      auto& members = frame.container->get_ref<Json::object_t&>();
      members.emplace_back(key, nullptr);
      frame.slot = &members.back().second;
    } else {
      document_.repeated.push_back(Path());
      frame.discarded = nullptr;
      frame.slot = &frame.discarded;
    }
    return true;
  }

  bool parse_error(std::size_t bytes_read, const std::string&,
                   const nlohmann::detail::exception& exception) override {
    error_ = Error{Clipped(PlainReason(exception.what()), kMaxMessageBytes),
                   LineAndColumn(text_, std::max<size_t>(bytes_read, 1) - 1), ""};
    return false;
  }

 private:
  struct Frame {
    Json* container = nullptr;
    Json* slot = nullptr;  // where the next value of an object goes
    Json discarded;        // of a repeated key
    std::string key;
    std::unordered_set<std::string> keys;
  };

  Json* NextSlot() {
    if (frames_.empty()) return &document_.root;
    Frame& frame = frames_.back();
    if (frame.container->is_object()) return frame.slot;
    frame.container->push_back(nullptr);
    return &frame.container->back();
  }

  bool Put(Json value) {
    *NextSlot() = std::move(value);
    return true;
  }

  bool Open(Json empty) {
    if (frames_.size() == kMaxJsonDepth) {
      error_ = Error{"is nested too deep", Path(), fmt::format("at most {} levels", kMaxJsonDepth)};
      return false;
    }
    Json* slot = NextSlot();
    *slot = std::move(empty);
    frames_.emplace_back().container = slot;
    return true;
  }

  bool Close() {
    frames_.pop_back();
    return true;
  }

  [[nodiscard]] std::string Path() const {
    std::string path;
    for (const Frame& frame : frames_) {
      if (frame.container->is_object()) {
        path = JsonMemberPath(path, frame.key);
      } else {
        path += fmt::format("[{}]", frame.container->size());
      }
    }
    return path;
  }

  std::string_view text_;
  JsonDocument document_;
  std::vector<Frame> frames_;
  std::optional<Error> error_;
};

bool IsPlainWord(std::string_view key) {
  return !key.empty() && std::ranges::all_of(key, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

}  // namespace

Result<JsonDocument> ParseJsonDocument(std::string_view text) {
  Builder builder(text);
  if (!Json::sax_parse(text, &builder)) {
    auto error = builder.TakeError();
    return tl::unexpected(error ? *std::move(error) : Error{"is no JSON", "", "a JSON text"});
  }
  return builder.Take();
}

namespace {

// MessagePack's texts may be no UTF-8: such bytes become U+FFFD.
std::string Quoted(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string JsonMemberPath(std::string_view parent, std::string_view key) {
  const std::string shown = Clipped(key, kMaxShownBytes);
  if (!IsPlainWord(key)) return fmt::format("{}[{}]", parent, Quoted(shown));
  return parent.empty() ? shown : fmt::format("{}.{}", parent, shown);
}

std::string DescribeJson(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  if (!value.is_string()) return Quoted(value);
  return Quoted(Clipped(value.get_ref<const std::string&>(), kMaxShownBytes));
}

}  // namespace conductor::serve
