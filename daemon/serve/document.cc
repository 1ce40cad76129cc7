#include "daemon/serve/document.h"

#include <algorithm>
#include <cctype>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace conductor::serve {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;
using MsgpackKind = wire::MsgpackValue::Kind;

std::string Describe(simdjson::error_code error) {
  switch (error) {
    case simdjson::EMPTY:
      return "the body is empty";
    case simdjson::UTF8_ERROR:
      return "the body is not valid UTF-8";
    case simdjson::DEPTH_ERROR:
      return "the body is nested too deep";
    case simdjson::TAPE_ERROR:
      return "the body breaks JSON's grammar, or has something after its value";
    default:
      return simdjson::error_message(error);
  }
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

}  // namespace

std::optional<BodyForm> FormNamed(std::string_view header) {
  const std::string lower = Lower(header);
  size_t best = std::string::npos;
  std::optional<BodyForm> form;
  for (const auto& [name, named] : {std::pair("application/msgpack", BodyForm::kMsgpack),
                                    std::pair("application/x-msgpack", BodyForm::kMsgpack),
                                    std::pair("application/json", BodyForm::kJson)}) {
    const size_t at = lower.find(name);
    if (at == std::string::npos || (best != std::string::npos && at > best)) continue;
    best = at;
    form = named;
  }
  return form;
}

std::string_view MediaType(BodyForm form) {
  return form == BodyForm::kMsgpack ? "application/msgpack" : "application/json";
}

Value::Value(element element, const JsonTokens* tokens) : value_(Json{element, tokens}) {
  simdjson::dom::array array;
  if (tokens == nullptr || element.get(array) != simdjson::SUCCESS || array.size() != 1) return;
  std::string_view text;
  if (array.at(0).get(text) == simdjson::SUCCESS && JsonTokens::IsPlaceholder(text)) {
    value_ = tokens->At(text);
  }
}

Value::Kind Value::kind() const {
  if (const auto* json = std::get_if<Json>(&value_)) {
    switch (json->element.type()) {
      case element_type::ARRAY:
        return Kind::kArray;
      case element_type::OBJECT:
        return Kind::kMap;
      case element_type::INT64:
      case element_type::UINT64:
        return Kind::kInteger;
      case element_type::DOUBLE:
        return Kind::kReal;
      case element_type::STRING:
        return Kind::kText;
      case element_type::BOOL:
        return Kind::kBool;
      case element_type::NULL_VALUE:
        return Kind::kNil;
    }
    return Kind::kNil;
  }
  if (std::holds_alternative<TokenArray>(value_)) return Kind::kArray;
  if (std::holds_alternative<TokenId>(value_)) return Kind::kInteger;
  switch (std::get<wire::MsgpackValue>(value_).kind()) {
    case MsgpackKind::kNil:
      return Kind::kNil;
    case MsgpackKind::kBool:
      return Kind::kBool;
    case MsgpackKind::kUint:
    case MsgpackKind::kWideUint:
    case MsgpackKind::kNegative:
      return Kind::kInteger;
    case MsgpackKind::kFloat:
      return Kind::kReal;
    case MsgpackKind::kText:
      return Kind::kText;
    case MsgpackKind::kBytes:
      return Kind::kBytes;
    case MsgpackKind::kExtension:
      return Kind::kExtension;
    case MsgpackKind::kArray:
      return Kind::kArray;
    case MsgpackKind::kMap:
      return Kind::kMap;
  }
  return Kind::kNil;
}

std::string_view Value::KindName() const {
  const bool json = form() == BodyForm::kJson;
  switch (kind()) {
    case Kind::kNil:
      return json ? "null" : "nil";
    case Kind::kBool:
      return "a boolean";
    case Kind::kInteger:
      return "an integer";
    case Kind::kReal:
      return "a fraction";
    case Kind::kText:
      return "a string";
    case Kind::kBytes:
      return "bytes";
    case Kind::kExtension:
      return "an extension";
    case Kind::kArray:
      return "an array";
    case Kind::kMap:
      return json ? "an object" : "a map";
  }
  return "nothing";
}

std::string Value::Show() const {
  if (const auto number = AsInt64()) return std::to_string(*number);
  if (const auto number = AsUint64()) return std::to_string(*number);
  return std::string(KindName());
}

std::optional<bool> Value::AsBool() const {
  if (kind() != Kind::kBool) return std::nullopt;
  if (const auto* json = std::get_if<Json>(&value_)) return bool{json->element};
  return std::get<wire::MsgpackValue>(value_).boolean();
}

std::optional<uint64_t> Value::AsUint64() const {
  if (const auto* json = std::get_if<Json>(&value_)) {
    uint64_t number = 0;
    if (json->element.get(number) != simdjson::SUCCESS) return std::nullopt;
    return number;
  }
  if (const auto* token = std::get_if<TokenId>(&value_)) return *token;
  const auto* value = std::get_if<wire::MsgpackValue>(&value_);
  return value == nullptr ? std::nullopt : value->AsUint64();
}

std::optional<int64_t> Value::AsInt64() const {
  if (const auto* json = std::get_if<Json>(&value_)) {
    int64_t number = 0;
    if (json->element.get(number) != simdjson::SUCCESS) return std::nullopt;
    return number;
  }
  if (const auto* token = std::get_if<TokenId>(&value_)) return *token;
  const auto* value = std::get_if<wire::MsgpackValue>(&value_);
  return value == nullptr ? std::nullopt : value->AsInt64();
}

std::optional<double> Value::AsReal() const {
  if (const auto* json = std::get_if<Json>(&value_)) {
    double number = 0;
    if (json->element.get(number) != simdjson::SUCCESS) return std::nullopt;
    return number;
  }
  if (kind() == Kind::kReal) return std::get<wire::MsgpackValue>(value_).real();
  if (const auto number = AsInt64()) return static_cast<double>(*number);
  if (const auto number = AsUint64()) return static_cast<double>(*number);
  return std::nullopt;
}

std::optional<std::string_view> Value::AsText() const {
  if (const auto* json = std::get_if<Json>(&value_)) {
    std::string_view text;
    if (json->element.get(text) != simdjson::SUCCESS) return std::nullopt;
    return text;
  }
  const auto* value = std::get_if<wire::MsgpackValue>(&value_);
  return value != nullptr && value->is_text() ? std::optional(value->bytes()) : std::nullopt;
}

std::optional<std::string_view> Value::AsBytes() const {
  if (kind() != Kind::kBytes) return std::nullopt;
  return std::get<wire::MsgpackValue>(value_).bytes();
}

size_t Value::size() const {
  if (const auto* json = std::get_if<Json>(&value_)) {
    simdjson::dom::array array;
    if (json->element.get(array) == simdjson::SUCCESS) {
      // The parser's own count stops at 2^24 - 1.
      constexpr size_t kCounted = (size_t{1} << 24) - 1;
      const size_t counted = array.size();
      if (counted < kCounted) return counted;
      return static_cast<size_t>(std::distance(array.begin(), array.end()));
    }
    simdjson::dom::object object;
    return json->element.get(object) == simdjson::SUCCESS ? object.size() : 0;
  }
  if (const auto* tokens = std::get_if<TokenArray>(&value_)) return tokens->size();
  const auto* value = std::get_if<wire::MsgpackValue>(&value_);
  return value != nullptr && (value->is_array() || value->is_map()) ? value->size() : 0;
}

bool Value::CopyTokens(std::vector<TokenId>& out) const {
  if (const auto* json = std::get_if<Json>(&value_)) {
    simdjson::dom::array array;
    if (json->element.get(array) != simdjson::SUCCESS) return false;
    out.clear();
    out.reserve(size());
    for (const element item : array) {
      uint64_t id = 0;
      if (item.get(id) != simdjson::SUCCESS || id > std::numeric_limits<TokenId>::max()) {
        return false;
      }
      out.push_back(static_cast<TokenId>(id));
    }
    return true;
  }
  if (const auto* tokens = std::get_if<TokenArray>(&value_)) {
    out.assign(tokens->begin(), tokens->end());
    return true;
  }
  const auto* value = std::get_if<wire::MsgpackValue>(&value_);
  return value != nullptr && value->is_array() && value->CopyIntegers(out);
}

// What one body is read with, and what its values view.
struct Document::Parser {
  simdjson::dom::parser json;
  JsonTokens tokens;
  wire::MsgpackTape msgpack;
};

// Parsers that are not in use, so that a request finds one with its buffers warm. Not more are out
// at once than there are processors to use them: their buffers are the larger part of a request's
// memory.
class Document::ParserPool {
 public:
  // Waits while all are out. A thread takes one at a time.
  std::unique_ptr<Parser, GiveBack> Take() {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [this] { return out_ < most_out_; });
    std::unique_ptr<Parser> parser;
    if (free_.empty()) {
      parser = std::make_unique<Parser>();
    } else {
      parser = std::move(free_.back());
      free_.pop_back();
    }
    ++out_;
    return std::unique_ptr<Parser, GiveBack>(parser.release());
  }

  void TakeBack(Parser* returned) {
    std::unique_ptr<Parser> parser(returned);
    if (std::max(parser->json.capacity(), parser->tokens.capacity()) > kMaxKeptCapacity) {
      parser.reset();
    }
    const std::lock_guard lock(mutex_);
    if (parser && free_.size() < kKept) free_.push_back(std::move(parser));
    --out_;
    returned_.notify_one();
  }

  static ParserPool& Shared() {
    static ParserPool pool;
    return pool;
  }

 private:
  static constexpr size_t kKept = 8;
  static constexpr size_t kMaxKeptCapacity = 4 << 20;  // bytes of body

  ParserPool() { free_.reserve(kKept); }

  const size_t most_out_ = std::max(4U, std::thread::hardware_concurrency());
  std::mutex mutex_;  // guards the rest
  std::condition_variable returned_;
  size_t out_ = 0;
  std::vector<std::unique_ptr<Parser>> free_;
};

void Document::GiveBack::operator()(Parser* parser) const { ParserPool::Shared().TakeBack(parser); }

Document::Document(std::unique_ptr<Parser, GiveBack> parser, BodyForm form)
    : parser_(std::move(parser)), form_(form) {}
Document::~Document() = default;
Document::Document(Document&& other) noexcept = default;

Result<Document> Document::Parse(const BodyBytes& body, BodyForm form, Rest rest) {
  const std::string_view bytes = body.bytes;
  Document document(ParserPool::Shared().Take(), form);
  if (form == BodyForm::kMsgpack) {
    const auto value = rest == Rest::kIgnore ? document.parser_->msgpack.ParseFirst(bytes)
                                             : document.parser_->msgpack.Parse(bytes);
    if (!value) return tl::unexpected(value.error());
    document.root_ = Value(*value);
    return document;
  }
  const bool padded = body.padding >= simdjson::SIMDJSON_PADDING;
  static_assert(simdjson::SIMDJSON_PADDING >= JsonTokens::kReadAhead);
  JsonTokens& tokens = document.parser_->tokens;
  const bool lifted = padded && tokens.Lift(bytes, simdjson::SIMDJSON_PADDING);
  const std::string_view text = lifted ? tokens.rest() : bytes;
  element root;
  const auto error = document.parser_->json.parse(text.data(), text.size(), !padded).get(root);
  if (error != simdjson::SUCCESS) return Fail(Describe(error));
  document.root_ = Value(root, lifted ? &tokens : nullptr);
  return document;
}

}  // namespace conductor::serve
