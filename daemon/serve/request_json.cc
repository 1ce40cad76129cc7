#include "daemon/serve/request_json.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <condition_variable>
#include <initializer_list>
#include <limits>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <thread>
#include <utility>

#include "daemon/serve/registration_json.h"

namespace conductor::serve {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr int64_t kMaxNumber = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxUnused = 64;  // fields told to a client
constexpr uint64_t kMaxToken = std::numeric_limits<TokenId>::max();

// Parsers that are not in use, so that a request finds one with its buffers warm. Not more are out
// at once than there are processors to use them: their buffers are the larger part of a request's
// memory.
class ParserPool {
 public:
  struct Return {
    void operator()(simdjson::dom::parser* parser) const { Shared().TakeBack(parser); }
  };
  using Parser = std::unique_ptr<simdjson::dom::parser, Return>;

  // Waits while all are out. A thread takes one at a time.
  Parser Take() {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [this] { return out_ < most_out_; });
    auto parser = free_.empty() ? std::make_unique<simdjson::dom::parser>()
                                : std::exchange(free_.back(), nullptr);
    if (!free_.empty()) free_.pop_back();
    ++out_;
    return Parser(parser.release());
  }

  static ParserPool& Shared() {
    static ParserPool pool;
    return pool;
  }

 private:
  static constexpr size_t kKept = 8;
  static constexpr size_t kMaxKeptCapacity = 4 << 20;  // bytes of body

  ParserPool() { free_.reserve(kKept); }

  void TakeBack(simdjson::dom::parser* returned) {
    std::unique_ptr<simdjson::dom::parser> parser(returned);
    if (parser->capacity() > kMaxKeptCapacity) parser.reset();
    const std::lock_guard lock(mutex_);
    if (parser && free_.size() < kKept) free_.push_back(std::move(parser));
    --out_;
    returned_.notify_one();
  }

  const size_t most_out_ = std::max(4U, std::thread::hardware_concurrency());
  std::mutex mutex_;  // guards the rest
  std::condition_variable returned_;
  size_t out_ = 0;
  std::vector<std::unique_ptr<simdjson::dom::parser>> free_;
};

std::string Describe(simdjson::error_code error) {
  switch (error) {
    case simdjson::EMPTY:
      return "the body is empty";
    case simdjson::UTF8_ERROR:
      return "the body is not valid UTF-8";
    case simdjson::DEPTH_ERROR:
      return "the body is nested too deep";
    case simdjson::TAPE_ERROR:
      return "the body breaks JSON's grammar, or has something after its object";
    default:
      return simdjson::error_message(error);
  }
}

std::string_view TypeName(element_type type) {
  switch (type) {
    case element_type::ARRAY:
      return "an array";
    case element_type::OBJECT:
      return "an object";
    case element_type::INT64:
    case element_type::UINT64:
      return "an integer";
    case element_type::DOUBLE:
      return "a fraction";
    case element_type::STRING:
      return "a string";
    case element_type::BOOL:
      return "a boolean";
    case element_type::NULL_VALUE:
      return "null";
  }
  return "something else";
}

// An integer's or another value's text for messages.
std::string Show(element value) {
  if (int64_t number = 0; value.get(number) == simdjson::SUCCESS) return std::to_string(number);
  if (uint64_t number = 0; value.get(number) == simdjson::SUCCESS) return std::to_string(number);
  return std::string(TypeName(value.type()));
}

// `text` short enough for a message, cut between characters.
std::string Shown(std::string_view text) {
  constexpr size_t kMax = 64;
  if (text.size() <= kMax) return std::string(text);
  size_t end = kMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

// The members of a body that have a meaning, read by name. The first thing that is wrong is kept:
// what is asked for after that may be any value, and Finish() gives the error.
class Body {
 public:
  // What happens to members of other names.
  enum class Others : uint8_t { kIgnore, kRefuse };

  Body(const std::string& json, std::initializer_list<std::string_view> known, Others others)
      : parser_(ParserPool::Shared().Take()) {
    element root;
    const bool padded = json.capacity() >= json.size() + simdjson::SIMDJSON_PADDING;
    const auto error = parser_->parse(json.data(), json.size(), !padded).get(root);
    simdjson::dom::object object;
    if (error != simdjson::SUCCESS) {
      Fail("invalid_json", "", "Invalid JSON: " + Describe(error));
    } else if (root.get(object) != simdjson::SUCCESS) {
      Fail("invalid_json", "",
           fmt::format("Invalid JSON: the body is {} (expected an object)", TypeName(root.type())));
    } else {
      object_ = object;
      Take(object, known, others);
    }
  }
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;

  void Fail(std::string reason, std::string_view field, std::string error,
            std::optional<uint64_t> index = {}) {
    if (!error_)
      error_ = RequestError{std::move(error), std::move(reason), std::string(field), index};
  }

  template <typename T>
  [[nodiscard]] Parsed<T> Finish(T value) {
    if (error_) return tl::unexpected<RequestError>(std::move(*error_));
    return value;
  }

  // Nothing when it is absent or null.
  [[nodiscard]] std::optional<element> Get(std::string_view name) const {
    for (const auto& [known, value] : members_) {
      if (known == name && !value.is_null()) return value;
    }
    return std::nullopt;
  }

  [[nodiscard]] bool failed() const { return error_.has_value(); }

  // All members as the reader of registrations takes them. Of what is nested deeper than the
  // members of a member only the type is kept: no field of a registration is there.
  [[nodiscard]] nlohmann::ordered_json Members() {
    nlohmann::ordered_json members = nlohmann::ordered_json::object();
    if (object_) TakeMembers("", *object_, members);
    return members;
  }

  // "" when absent.
  [[nodiscard]] std::string Text(std::string_view name) {
    const auto value = Get(name);
    std::string_view text;
    if (value && value->get(text) != simdjson::SUCCESS) {
      Fail("invalid_type", name, fmt::format("{} must be a string", name));
    }
    return std::string(text);
  }

  [[nodiscard]] std::string RequiredText(std::string_view name) {
    if (!Get(name)) Fail("missing", name, fmt::format("{} is required", name));
    std::string text = Text(name);
    if (text.empty()) Fail("invalid_value", name, fmt::format("{} must not be empty", name));
    return text;
  }

  [[nodiscard]] std::optional<int64_t> Integer(std::string_view name, int64_t min, int64_t max) {
    const auto value = Get(name);
    if (!value) return std::nullopt;
    int64_t number = 0;
    const auto error = value->get(number);
    if (error == simdjson::INCORRECT_TYPE) {
      Fail("invalid_type", name, fmt::format("{} must be an integer", name));
      return std::nullopt;
    }
    if (error != simdjson::SUCCESS || number < min || number > max) {
      Fail("out_of_range", name,
           fmt::format("{} is {} (expected an integer from {} to {})", name, Show(*value), min,
                       max));
      return std::nullopt;
    }
    return number;
  }

  [[nodiscard]] uint32_t Number(std::string_view name) {
    return static_cast<uint32_t>(Integer(name, 0, kMaxNumber).value_or(0));
  }

  [[nodiscard]] std::vector<TokenId> Tokens(std::string_view name) {
    std::vector<TokenId> tokens;
    const auto array = Array(name, "token ids");
    if (!array) return tokens;
    tokens.reserve(array->size());
    for (const element token : *array) {
      uint64_t id = 0;
      const auto error = token.get(id);
      if (error != simdjson::SUCCESS || id > kMaxToken) {
        Fail(error == simdjson::INCORRECT_TYPE ? "invalid_type" : "out_of_range", name,
             fmt::format("{}[{}] is {} (expected an integer from 0 to {})", name, tokens.size(),
                         Show(token), kMaxToken),
             tokens.size());
        break;
      }
      tokens.push_back(static_cast<TokenId>(id));
    }
    return tokens;
  }

  // At most kMaxTexts of them; duplicates count.
  [[nodiscard]] std::set<std::string> Texts(std::string_view name) {
    std::set<std::string> texts;
    const auto array = Array(name, "strings");
    if (!array) return texts;
    if (array->size() > kMaxTexts) {
      Fail("too_many", name,
           fmt::format("{} has {} entries (expected at most {})", name, array->size(), kMaxTexts));
      return texts;
    }
    uint64_t index = 0;
    for (const element item : *array) {
      std::string_view text;
      if (item.get(text) != simdjson::SUCCESS) {
        Fail("invalid_type", name, fmt::format("\"{}[{}]\" is not a string", name, index), index);
        break;
      }
      texts.emplace(text);
      ++index;
    }
    return texts;
  }

 private:
  static constexpr size_t kMaxMembers = 1024;
  static constexpr size_t kMaxTexts = 4096;

  void Take(simdjson::dom::object object, std::initializer_list<std::string_view> known,
            Others others) {
    for (const auto& [name, value] : object) {
      if (std::find(known.begin(), known.end(), name) == known.end()) {
        if (others == Others::kRefuse) {
          Fail("unknown_field", Shown(name),
               fmt::format("unsupported request field: {}", Shown(name)));
        }
        continue;
      }
      if (std::any_of(members_.begin(), members_.end(),
                      [n = name](const auto& member) { return member.first == n; })) {
        Fail("duplicate_field", name, fmt::format("{} is given twice", name));
        return;
      }
      members_.emplace_back(name, value);
    }
  }

  std::optional<simdjson::dom::array> Array(std::string_view name, std::string_view of) {
    const auto value = Get(name);
    simdjson::dom::array array;
    if (!value) {
      Fail("missing", name, fmt::format("{} is required", name));
    } else if (value->get(array) != simdjson::SUCCESS) {
      Fail("not_array", name,
           fmt::format("{} must be an array of {}, not {}", name, of, TypeName(value->type())));
    } else {
      return array;
    }
    return std::nullopt;
  }

  // `parent`: the member of the body that `object` is; empty: the body itself.
  void TakeMembers(const std::string& parent, simdjson::dom::object object,
                   nlohmann::ordered_json& members) {
    for (const auto& [key, value] : object) {
      const FieldName field{parent, std::string(key)};
      if (members.contains(field.name)) {
        Fail("duplicate_field", Shown(field.Dotted()),
             fmt::format("{} is given twice", Shown(field.Dotted())));
        return;
      }
      if (members.size() == kMaxMembers) {
        Fail("too_many", parent,
             fmt::format("{} has more than {} members", parent.empty() ? "the body" : parent,
                         kMaxMembers));
        return;
      }
      nlohmann::ordered_json& member = members[field.name];
      simdjson::dom::object nested;
      if (parent.empty() && value.get(nested) == simdjson::SUCCESS) {
        member = nlohmann::ordered_json::object();
        TakeMembers(field.name, nested, member);
      } else {
        member = Shallow(value);
      }
    }
  }

  static nlohmann::ordered_json Shallow(element value) {
    switch (value.type()) {
      case element_type::STRING:
        return std::string(std::string_view(value));
      case element_type::INT64:
        return int64_t{value};
      case element_type::UINT64:
        return uint64_t{value};
      case element_type::DOUBLE:
        return double{value};
      case element_type::BOOL:
        return bool{value};
      case element_type::NULL_VALUE:
        return nullptr;
      case element_type::ARRAY:
        return nlohmann::ordered_json::array();
      case element_type::OBJECT:
        return nlohmann::ordered_json::object();
    }
    return nullptr;
  }

  ParserPool::Parser parser_;  // the elements live in it
  std::optional<simdjson::dom::object> object_;
  std::vector<std::pair<std::string_view, element>> members_;
  std::optional<RequestError> error_;
};

std::string ReadTenant(Body& body) {
  std::string tenant = body.Text("tenant_id");
  return tenant.empty() ? "default" : tenant;
}

// The fields that both query dialects have, but the tokens.
Query ReadQuery(Body& body) {
  Query query;
  query.model = body.RequiredText("model");
  query.tenant = ReadTenant(body);
  query.lora_name = body.Text("lora_name");
  query.cache_salt = body.Text("cache_salt");
  if (body.Get("additional_salt")) query.additional_salt = body.Text("additional_salt");
  if (const uint32_t block_size = body.Number("block_size"); block_size > 0) {
    query.block_size = block_size;
  }
  return query;
}

// lora_id -1 is none; a name wins over an id.
std::string ReadLora(Body& body) {
  std::string name = body.Text("lora_name");
  const auto id = body.Integer("lora_id", -1, kMaxNumber);
  return name.empty() && id && *id >= 0 ? std::to_string(*id) : name;
}

// The words that the Mooncake Conductor has for what is most often wrong.
RequestError ErrorOf(const FieldProblem& problem) {
  const std::string field = problem.field.Dotted();
  std::string error = fmt::format("{}: {} (expected {})", field, problem.what, problem.expected);
  if (problem.reason == "missing") {
    error = fmt::format("{} is required", field);
  } else if (problem.reason == "invalid_type") {
    error = fmt::format("{} must be {}", field, problem.expected);
  } else if (problem.what == "is empty") {
    error = fmt::format("{} must not be empty", field);
  }
  return RequestError{std::move(error), problem.reason, field, {}};
}

// Which publisher a request speaks of.
void ReadKey(Body& body, Registration& registration) {
  registration.instance_id = body.RequiredText("instance_id");
  registration.tenant = ReadTenant(body);
  registration.dp_rank = body.Number("dp_rank");
}

}  // namespace

std::string ToJson(const RequestError& error) {
  nlohmann::ordered_json json{{"error", error.error}, {"reason", error.reason}};
  if (!error.field.empty()) json["field"] = error.field;
  if (error.index) json["index"] = *error.index;
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Parsed<Query> ParseMooncakeQuery(const std::string& json) {
  Body body(json,
            {"model", "block_size", "token_ids", "lora_name", "lora_id", "instance_id", "tenant_id",
             "cache_salt", "additional_salt"},
            Body::Others::kIgnore);
  Query query = ReadQuery(body);
  query.lora_name = ReadLora(body);
  if (std::string instance = body.Text("instance_id"); !instance.empty()) {
    query.instances.insert(std::move(instance));
  }
  query.tokens = body.Tokens("token_ids");
  return body.Finish(std::move(query));
}

Parsed<RankedQuery> ParseQuery(const std::string& json) {
  Body body(json,
            {"model", "token_ids", "tokens", "tenant_id", "lora_name", "block_size", "cache_salt",
             "additional_salt", "instances", "top"},
            Body::Others::kRefuse);
  RankedQuery ranked{ReadQuery(body), std::nullopt};
  if (body.Get("block_size") && !ranked.query.block_size) {
    body.Fail("out_of_range", "block_size",
              fmt::format("block_size is 0 (expected an integer from 1 to {})", kMaxNumber));
  }
  if (body.Get("instances")) {
    ranked.query.instances = body.Texts("instances");
    if (ranked.query.instances.empty()) {
      body.Fail("invalid_value", "instances",
                "instances must not be empty (leave it out to ask for all)");
    }
  }
  if (const auto top = body.Integer("top", 1, kMaxNumber)) {
    ranked.top = static_cast<uint32_t>(*top);
  }
  const bool by_alias = body.Get("tokens").has_value();
  if (by_alias && body.Get("token_ids")) {
    body.Fail("duplicate_field", "tokens", "tokens is another name of token_ids: give one");
  }
  ranked.query.tokens = body.Tokens(by_alias ? "tokens" : "token_ids");
  return body.Finish(std::move(ranked));
}

Parsed<RegisterRequest> ParseRegister(const std::string& json) {
  Body body(json, {}, Body::Others::kIgnore);
  const nlohmann::ordered_json object = body.Members();
  RegisterRequest request;
  if (body.failed()) return body.Finish(std::move(request));
  RegistrationFields fields = ReadRegistration(object, std::nullopt);
  if (!fields.problems.empty()) return tl::unexpected(ErrorOf(fields.problems.front()));
  request.registration = std::move(fields.registration);
  request.dp_size = fields.dp_size;
  if (!fields.implied_replay.empty()) {
    request.registration.replay_endpoint = std::move(fields.implied_replay);
  }
  for (const FieldName& field : fields.unknown) {
    if (request.unused.size() == kMaxUnused) break;
    request.unused.push_back(Shown(field.Dotted()));
  }
  return request;
}

Parsed<std::string> ParseUnregister(const std::string& json) {
  Body body(json, {"instance_id", "tenant_id", "dp_rank"}, Body::Others::kIgnore);
  Registration registration;
  ReadKey(body, registration);
  return body.Finish(registration.Key());
}

Parsed<CacheQuery> ParseCacheQuery(const std::string& json) {
  Body body(json, {"token_ids", "instances", "model_name", "lora_id", "lora_name"},
            Body::Others::kIgnore);
  for (const std::string_view key : {"token_ids", "instances", "model_name"}) {
    if (!body.Get(key)) body.Fail("missing", key, fmt::format("missing key: {}", key));
  }
  for (const std::string_view key : {"token_ids", "instances"}) {
    if (const auto value = body.Get(key); value && value->type() != element_type::ARRAY) {
      body.Fail("not_array", key, fmt::format("the value of {} is not an array", key));
    }
  }
  for (const std::string_view key : {"model_name", "lora_name"}) {
    if (const auto value = body.Get(key); value && value->type() != element_type::STRING) {
      body.Fail("invalid_type", key, fmt::format("the value of: {} is not a string", key));
    }
  }
  if (const auto id = body.Get("lora_id"); id && !id->is_number()) {
    body.Fail("invalid_type", "lora_id", "the value of: lora_id is not a number");
  }
  CacheQuery query;
  query.model = body.Text("model_name");
  query.lora_name = ReadLora(body);
  query.tokens = body.Tokens("token_ids");
  query.hosts = body.Texts("instances");
  return body.Finish(std::move(query));
}

}  // namespace conductor::serve
