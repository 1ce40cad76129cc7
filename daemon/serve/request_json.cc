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

#include "lib/base/endpoint.h"

namespace conductor::serve {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr int64_t kMaxNumber = std::numeric_limits<int32_t>::max();
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
  enum class Others : uint8_t { kIgnore, kCollect, kRefuse };

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

  // Names that are not known, at most kMaxOthers of them.
  [[nodiscard]] std::vector<std::string> TakeOthers() { return std::move(others_); }

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

  // A text that generations call by two names.
  [[nodiscard]] std::string Text(std::string_view name, std::string_view alias) {
    std::string text = Text(name);
    std::string other = Text(alias);
    if (Get(name) && Get(alias) && text != other) {
      Fail("invalid_value", alias, fmt::format("{} and {} differ", name, alias));
    }
    return Get(name) ? text : other;
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
  static constexpr size_t kMaxOthers = 64;
  static constexpr size_t kMaxTexts = 4096;

  void Take(simdjson::dom::object object, std::initializer_list<std::string_view> known,
            Others others) {
    for (const auto& [name, value] : object) {
      if (std::find(known.begin(), known.end(), name) == known.end()) {
        if (others == Others::kRefuse) {
          Fail("unknown_field", Shown(name),
               fmt::format("unsupported request field: {}", Shown(name)));
        } else if (others == Others::kCollect && others_.size() < kMaxOthers) {
          others_.push_back(Shown(name));
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

  ParserPool::Parser parser_;  // the elements live in it
  std::vector<std::pair<std::string_view, element>> members_;
  std::vector<std::string> others_;
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

// ip and port, as the first generations have it: vLLM's replay socket is one port further on.
void ReadIpAndPort(Body& body, Registration& registration) {
  std::string host = body.RequiredText("ip");
  const auto port = body.Integer("port", 1, 65535);
  if (!port) {
    body.Fail("missing", "port", "port is required beside ip");
    return;
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  const Endpoint events{"tcp", host, static_cast<uint16_t>(*port)};
  registration.endpoint = events.ToString();
  if (body.Get("replay_endpoint") || registration.type != PublisherType::kVllm) return;
  if (const auto replay = events.PortPlus(1)) registration.replay_endpoint = replay->ToString();
}

void ReadAddresses(Body& body, Registration& registration) {
  registration.replay_endpoint = body.Text("replay_endpoint");
  const bool has_ip_and_port = body.Get("ip") || body.Get("port");
  if (body.Get("endpoint") && has_ip_and_port) {
    body.Fail("invalid_value", "endpoint", "endpoint stands beside ip or port");
  } else if (has_ip_and_port) {
    ReadIpAndPort(body, registration);
  } else {
    registration.endpoint = body.RequiredText("endpoint");
  }
}

PublisherType ReadType(Body& body) {
  const std::string text = body.Text("type");
  if (text.empty()) return PublisherType::kVllm;
  const auto type = ParsePublisherType(text);
  if (!type) body.Fail("invalid_value", "type", "type must be vLLM or Mooncake");
  return type.value_or(PublisherType::kVllm);
}

index::CopyMode ReadCopies(Body& body) {
  const std::string text = body.Text("copies");
  if (text == "set") return index::CopyMode::kSet;
  if (!text.empty() && text != "count") {
    body.Fail("invalid_value", "copies", "copies must be count or set");
  }
  return index::CopyMode::kCount;
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
  Body body(json,
            {"endpoint", "replay_endpoint", "ip", "port", "topic", "type", "modelname", "model",
             "lora_name", "lora_id", "tenant_id", "instance_id", "block_size", "dp_rank",
             "additionalsalt", "additional_salt", "copies", "cache_group"},
            Body::Others::kCollect);
  RegisterRequest request;
  Registration& registration = request.registration;
  registration.type = ReadType(body);
  ReadAddresses(body, registration);
  ReadKey(body, registration);
  if (!body.Get("model")) {
    registration.model = body.RequiredText("modelname");
  } else {
    registration.model = body.Text("modelname", "model");
  }
  registration.lora_name = ReadLora(body);
  registration.topic = body.Text("topic");
  registration.additional_salt = body.Text("additionalsalt", "additional_salt");
  registration.block_size = body.Number("block_size");
  registration.copies = ReadCopies(body);
  if (body.Number("cache_group") != 0) {
    body.Fail("unsupported", "cache_group", "only cache group zero is supported");
  }
  request.unused = body.TakeOthers();
  return body.Finish(std::move(request));
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
