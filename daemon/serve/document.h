#ifndef CONDUCTOR_DAEMON_SERVE_DOCUMENT_H_
#define CONDUCTOR_DAEMON_SERVE_DOCUMENT_H_

#include <simdjson.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "daemon/serve/json_tokens.h"
#include "lib/base/result.h"
#include "lib/hash/block_hash.h"
#include "lib/wire/msgpack_tape.h"

namespace conductor::serve {

// The forms that bodies come in. What one can say the other can, but for bytes, which JSON has not.
enum class BodyForm : uint8_t { kJson, kMsgpack };

// The form that a Content-Type or an Accept names: application/msgpack and application/x-msgpack
// are MessagePack; nothing where it names neither that nor application/json.
[[nodiscard]] std::optional<BodyForm> FormNamed(std::string_view header);
[[nodiscard]] std::string_view MediaType(BodyForm form);

// A body's bytes, which are elsewhere.
struct BodyBytes {
  // With what stands behind its end: JSON with HttpRequest::kBodyPadding there is read in place.
  BodyBytes(const std::string& body)  // NOLINT: a body is its bytes
      : bytes(body), padding(body.capacity() - body.size()) {}
  BodyBytes(const char* body) : bytes(body) {}  // NOLINT: so is a literal
  explicit BodyBytes(std::string_view body) : bytes(body) {}

  std::string_view bytes;
  size_t padding = 0;  // readable bytes behind their end
};

// One value of a request's body, in either form. Copied freely; dies with its Document.
class Value {
 public:
  enum class Kind : uint8_t {
    kNil,
    kBool,
    kInteger,
    kReal,
    kText,
    kBytes,      // MessagePack's bin
    kExtension,  // MessagePack's ext
    kArray,
    kMap,
  };

  Value() = default;  // a nil
  explicit Value(wire::MsgpackValue value) : value_(value) {}
  // JSON, of which `tokens` may have taken something out (nullptr: nothing).
  Value(simdjson::dom::element element, const JsonTokens* tokens);

  [[nodiscard]] Kind kind() const;
  [[nodiscard]] BodyForm form() const {
    return std::holds_alternative<wire::MsgpackValue>(value_) ? BodyForm::kMsgpack
                                                              : BodyForm::kJson;
  }
  [[nodiscard]] bool is_nil() const { return kind() == Kind::kNil; }
  // "null", "an integer", "a string": for messages, in the words of its form.
  [[nodiscard]] std::string_view KindName() const;
  // An integer's digits, or what KindName() says.
  [[nodiscard]] std::string Show() const;

  // Nothing for what is of another kind or does not fit.
  [[nodiscard]] std::optional<bool> AsBool() const;
  [[nodiscard]] std::optional<uint64_t> AsUint64() const;
  [[nodiscard]] std::optional<int64_t> AsInt64() const;
  [[nodiscard]] std::optional<double> AsReal() const;  // integers too
  [[nodiscard]] std::optional<std::string_view> AsText() const;
  [[nodiscard]] std::optional<std::string_view> AsBytes() const;

  // Items of an array, pairs of a map; 0 for others.
  [[nodiscard]] size_t size() const;

  // Calls visit(Value) for each item of an array until it returns false. Nothing happens for
  // others.
  template <typename Visit>
  void ForEachItem(Visit&& visit) const {
    if (const auto* json = std::get_if<Json>(&value_)) {
      simdjson::dom::array array;
      if (json->element.get(array) != simdjson::SUCCESS) return;
      for (const simdjson::dom::element item : array) {
        if (!visit(Value(item, json->tokens))) return;
      }
    } else if (const auto* tokens = std::get_if<TokenArray>(&value_)) {
      for (const TokenId token : *tokens) {
        if (!visit(Value(token))) return;
      }
    } else if (const auto* value = std::get_if<wire::MsgpackValue>(&value_);
               value != nullptr && value->is_array()) {
      for (const wire::MsgpackValue item : value->items()) {
        if (!visit(Value(item))) return;
      }
    }
  }
  // Calls visit(key, value) for each pair of a map until it returns false; repeated keys come
  // repeatedly. A key that is no text (MessagePack) is nullopt.
  template <typename Visit>
  void ForEachEntry(Visit&& visit) const {
    if (const auto* json = std::get_if<Json>(&value_)) {
      simdjson::dom::object object;
      if (json->element.get(object) != simdjson::SUCCESS) return;
      for (const auto& [key, value] : object) {
        if (!visit(std::optional<std::string_view>(key), Value(value, json->tokens))) return;
      }
    } else if (const auto* map = std::get_if<wire::MsgpackValue>(&value_);
               map != nullptr && map->is_map()) {
      for (const auto& [key, value] : map->entries()) {
        std::optional<std::string_view> name;
        if (key.is_text()) name = key.bytes();
        if (!visit(name, Value(value))) return;
      }
    }
  }

  // Makes `out` the items of an array when all are integers below 2^32; false when not, and then it
  // is anything. Many times as fast as ForEachItem.
  [[nodiscard]] bool CopyTokens(std::vector<TokenId>& out) const;

 private:
  struct Json {
    simdjson::dom::element element;
    const JsonTokens* tokens;
  };
  using TokenArray = std::span<const TokenId>;  // JSON, taken out of the text

  explicit Value(TokenId token) : value_(token) {}  // of such an array

  std::variant<wire::MsgpackValue, Json, TokenArray, TokenId> value_;
};

// A body, read whole and strictly (UTF-8 in JSON, one value, nothing after it, nesting limited)
// before any of it is looked at, so an error anywhere in it is told.
//
// Designed for prompts of 128k tokens (about 800 KB): the parsers' buffers, up to fourteen times
// the body, are kept between requests, a few of them and only of ordinary size. As many bodies are
// read at once as there are processors, at least 4; further calls wait.
class Document {
 public:
  enum class Rest : uint8_t { kRefuse, kIgnore };  // bytes behind the value, in MessagePack

  // The bytes must outlive it. JSON without padding is copied once. The error says what is wrong
  // and where.
  [[nodiscard]] static Result<Document> Parse(const BodyBytes& body, BodyForm form,
                                              Rest rest = Rest::kRefuse);
  ~Document();
  Document(Document&& other) noexcept;
  Document& operator=(Document&&) = delete;

  [[nodiscard]] Value root() const { return root_; }
  [[nodiscard]] BodyForm form() const { return form_; }

 private:
  struct Parser;
  class ParserPool;
  struct GiveBack {
    void operator()(Parser* parser) const;
  };

  Document(std::unique_ptr<Parser, GiveBack> parser, BodyForm form);

  std::unique_ptr<Parser, GiveBack> parser_;  // what values view
  BodyForm form_;
  Value root_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_DOCUMENT_H_
