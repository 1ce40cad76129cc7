#include "daemon/serve/requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace conductor::serve {
namespace {

constexpr int64_t kMaxNumber = RequestBody::kMaxNumber;
constexpr size_t kMaxUnused = 64;  // fields told to a client
// The Go generations read signed tokens. One below zero matches nothing.
constexpr int64_t kLeastGoToken = std::numeric_limits<int32_t>::min();

using Body = RequestBody;

std::string ReadTenant(Body& body) {
  std::string tenant = body.Text("tenant_id");
  return tenant.empty() ? "default" : tenant;
}

// The fields that both query dialects have, but the tokens.
Query ReadQuery(Body& body, std::string model) {
  Query query;
  query.model = std::move(model);
  query.tenant = ReadTenant(body);
  query.lora_name = body.Text("lora_name");
  query.cache_salt = body.Text("cache_salt");
  if (body.Get("additional_salt")) query.additional_salt = body.Text("additional_salt");
  if (const uint32_t block_size = body.Number("block_size"); block_size > 0) {
    query.block_size = block_size;
  }
  return query;
}

// One extra key: a text, an integer, a multimodal item as [identifier, offset], or bytes.
std::optional<std::string> ReadExtraKey(Value value) {
  if (const auto text = value.AsText()) return hash::TextKey(*text);
  if (const auto bytes = value.AsBytes()) return hash::BytesKey(*bytes);
  if (value.kind() == Value::Kind::kInteger) {
    const auto number = value.AsInt64();
    return number ? std::optional(hash::IntegerKey(*number)) : std::nullopt;
  }
  if (value.kind() == Value::Kind::kMap && value.size() == 1) {
    std::optional<std::string> bytes;
    value.ForEachEntry([&bytes](std::optional<std::string_view> key, Value of) {
      const auto text = of.AsText();
      if (key == "base64" && text) bytes = FromBase64(*text);
      return true;
    });
    return bytes ? std::optional(hash::BytesKey(*bytes)) : std::nullopt;
  }
  if (value.kind() != Value::Kind::kArray || value.size() != 2) return std::nullopt;
  std::vector<Value> pair;
  value.ForEachItem([&pair](Value item) {
    pair.push_back(item);
    return true;
  });
  const auto identifier = pair[0].AsText();
  const auto offset = pair[1].AsInt64();
  if (!identifier || !offset) return std::nullopt;
  return hash::ItemKey(*identifier, *offset);
}

// An entry for each of the first blocks: null, or the keys of the block in the engine's order.
std::vector<hash::ExtraKeys> ReadExtraKeys(Body& body) {
  std::vector<hash::ExtraKeys> blocks;
  if (!body.Get("extra_keys")) return blocks;
  const auto array = body.Array("extra_keys", "the keys of each block");
  if (!array) return blocks;
  array->ForEachItem([&](Value entry) {
    hash::ExtraKeys& keys = blocks.emplace_back();
    bool good = entry.is_nil() || entry.kind() == Value::Kind::kArray;
    entry.ForEachItem([&](Value item) {
      auto key = ReadExtraKey(item);
      good = key.has_value();
      if (key) keys.push_back(std::move(*key));
      return good;
    });
    if (!good) {
      body.Fail("invalid_type", "extra_keys",
                fmt::format("extra_keys[{}] is not null or an array of keys: strings, integers, "
                            "[identifier, offset], bytes ({{\"base64\": ...}} in JSON)",
                            blocks.size() - 1),
                blocks.size() - 1);
    }
    return good;
  });
  return blocks;
}

// What a prompt is made of.
void ReadPrompt(Body& body, Query& query) {
  const bool by_alias = body.Get("tokens").has_value();
  const bool by_hashes = body.Get("prefix_hashes").has_value();
  if (by_alias && body.Get("token_ids")) {
    body.Fail("duplicate_field", "tokens", "tokens is another name of token_ids: give one");
  }
  query.extra_keys = ReadExtraKeys(body);
  if (!by_hashes) {
    query.tokens = body.Tokens(by_alias ? "tokens" : "token_ids", Body::Packed::kAllowed);
    return;
  }
  for (const std::string_view other : {"token_ids", "tokens", "extra_keys", "cache_salt"}) {
    if (!body.Get(other)) continue;
    body.Fail("invalid_value", other,
              fmt::format("{} says nothing beside prefix_hashes, which have it in them", other));
  }
  for (const uint64_t hash : body.Hashes("prefix_hashes", Body::Packed::kAllowed)) {
    query.prefixes.push_back(PrefixHash{hash});
  }
}

// The fields of /v1's questions that are no prompt.
Query ReadCommon(Body& body) {
  Query common = ReadQuery(body, body.RequiredText("model"));
  if (body.Get("block_size") && !common.block_size) {
    body.Fail("out_of_range", "block_size",
              fmt::format("block_size is 0 (expected an integer from 1 to {})", kMaxNumber));
  }
  return common;
}

// /v1/query and /v1/score: what is said once, and the prompts.
void ReadQueries(Body& body, uint32_t max_prompts, QueryRequest& request) {
  Query common = ReadCommon(body);
  if (body.Get("instances")) {
    common.instances = body.Texts("instances");
    if (common.instances.empty()) {
      body.Fail("invalid_value", "instances",
                "instances must not be empty (leave it out to ask for all)");
    }
  }
  if (const auto top = body.Integer("top", 1, kMaxNumber)) {
    request.top = static_cast<uint32_t>(*top);
  }
  if (!body.Get("prompts")) {
    ReadPrompt(body, common);
    request.prompts.push_back(std::move(common));
    return;
  }
  request.batch = true;
  for (const std::string_view of_one : {"token_ids", "tokens", "prefix_hashes", "extra_keys"}) {
    if (!body.Get(of_one)) continue;
    body.Fail("invalid_value", of_one,
              fmt::format("{} belongs into each of the prompts, not beside them", of_one));
  }
  const auto array = body.Array("prompts", "objects");
  if (!array || body.failed()) return;
  if (array->size() > max_prompts) {
    body.Fail("too_many", "prompts",
              fmt::format("prompts has {} entries (expected at most {}: --max-prompts)",
                          array->size(), max_prompts));
    return;
  }
  array->ForEachItem([&](Value item) {
    const size_t index = request.prompts.size();
    if (item.kind() != Value::Kind::kMap) {
      body.Fail("invalid_type", "prompts",
                fmt::format("prompts[{}] is {} (expected an object)", index, item.KindName()),
                index);
      return false;
    }
    Body prompt(item, fmt::format("prompts[{}].", index),
                {"token_ids", "tokens", "prefix_hashes", "extra_keys", "cache_salt"},
                Body::Others::kRefuse);
    Query& query = request.prompts.emplace_back(common);
    if (prompt.Get("cache_salt")) query.cache_salt = prompt.Text("cache_salt");
    ReadPrompt(prompt, query);
    if (prompt.error()) body.Fail(*prompt.error());
    return !body.failed();
  });
}

void ReadLoad(Body& body, QueryRequest& request) {
  const auto load = body.Get("load");
  if (!load) return;
  if (load->kind() != Value::Kind::kMap) {
    body.Fail("invalid_type", "load",
              fmt::format("load is {} (expected an object: instance id to what is known of it)",
                          load->KindName()));
    return;
  }
  load->ForEachEntry([&](std::optional<std::string_view> key, Value value) {
    const std::string id(key.value_or(""));
    if (!key || value.kind() != Value::Kind::kMap) {
      body.Fail("invalid_type", "load",
                fmt::format("load.{} is {} (expected an object with waiting or kv_use)", Shown(id),
                            value.KindName()));
      return false;
    }
    Body of(value, fmt::format("load.{}.", Shown(id)), {"waiting", "kv_use"},
            Body::Others::kRefuse);
    request.load[id] = {of.Real("waiting", 0, 1e9), of.Real("kv_use", 0, 1)};
    if (of.error()) body.Fail(*of.error());
    return !body.failed();
  });
}

void ReadWeights(Body& body, index::ScoreWeights& weights) {
  const auto given = body.Get("weights");
  if (!given) return;
  if (given->kind() != Value::Kind::kMap) {
    body.Fail("invalid_type", "weights",
              fmt::format("weights is {} (expected an object)", given->KindName()));
    return;
  }
  Body of(*given, "weights.", {"gpu", "cpu", "disk", "waiting", "kv", "doubtful", "stale"},
          Body::Others::kRefuse);
  const auto read = [&of](const char* name, double& weight) {
    weight = of.Real(name, 0, 1000).value_or(weight);
  };
  read("gpu", weights.gpu);
  read("cpu", weights.cpu);
  read("disk", weights.disk);
  read("waiting", weights.waiting);
  read("kv", weights.kv);
  read("doubtful", weights.doubtful);
  read("stale", weights.stale);
  if (of.error()) body.Fail(*of.error());
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

Parsed<Query> ParseMooncakeQuery(const std::string& bytes, BodyForm form) {
  Body body(bytes, form,
            {"model", "block_size", "token_ids", "lora_name", "lora_id", "instance_id", "tenant_id",
             "cache_salt", "additional_salt"},
            Body::Others::kIgnore);
  Query query = ReadQuery(body, body.Text("model"));
  query.lora_name = ReadLora(body);
  if (std::string instance = body.Text("instance_id"); !instance.empty()) {
    query.instances.insert(std::move(instance));
  }
  if (body.Get("token_ids")) {
    query.tokens = body.Tokens("token_ids", Body::Packed::kNo, kLeastGoToken);
  }
  return body.Finish(std::move(query));
}

Parsed<QueryRequest> ParseQueries(const BodyBytes& bytes, BodyForm form, uint32_t max_prompts) {
  Body body(bytes, form,
            {"model", "tenant_id", "lora_name", "block_size", "cache_salt", "additional_salt",
             "instances", "top", "token_ids", "tokens", "prefix_hashes", "extra_keys", "prompts"},
            Body::Others::kRefuse);
  QueryRequest request;
  ReadQueries(body, max_prompts, request);
  return body.Finish(std::move(request));
}

Parsed<QueryRequest> ParseScore(const BodyBytes& bytes, BodyForm form, uint32_t max_prompts,
                                const index::ScoreWeights& weights) {
  Body body(bytes, form,
            {"model", "tenant_id", "lora_name", "block_size", "cache_salt", "additional_salt",
             "instances", "top", "token_ids", "tokens", "prefix_hashes", "extra_keys", "prompts",
             "load", "weights"},
            Body::Others::kRefuse);
  QueryRequest request;
  request.weights = weights;
  ReadQueries(body, max_prompts, request);
  ReadLoad(body, request);
  ReadWeights(body, request.weights);
  return body.Finish(std::move(request));
}

Parsed<ExplainRequest> ParseExplain(const BodyBytes& bytes, BodyForm form) {
  Body body(bytes, form,
            {"model", "tenant_id", "lora_name", "block_size", "cache_salt", "additional_salt",
             "token_ids", "tokens", "prefix_hashes", "extra_keys", "instance_id"},
            Body::Others::kRefuse);
  ExplainRequest request;
  request.query = ReadCommon(body);
  request.instance_id = body.RequiredText("instance_id");
  ReadPrompt(body, request.query);
  return body.Finish(std::move(request));
}

Parsed<RegisterRequest> ParseRegister(const std::string& bytes, BodyForm form) {
  Body body(bytes, form, {}, Body::Others::kIgnore);
  const nlohmann::ordered_json members = body.Members();
  if (body.failed()) return body.Finish(RegisterRequest());
  return ReadRegister(members);
}

Parsed<RegisterRequest> ReadRegister(const nlohmann::ordered_json& members) {
  return RegisterFrom(ReadRegistration(members, std::nullopt));
}

Parsed<RegisterRequest> RegisterFrom(RegistrationFields fields) {
  RegisterRequest request;
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

Parsed<std::string> ParseUnregister(const std::string& bytes, BodyForm form) {
  Body body(bytes, form, {"instance_id", "tenant_id", "dp_rank"}, Body::Others::kIgnore);
  Registration registration;
  ReadKey(body, registration);
  return body.Finish(registration.Key());
}

Parsed<CacheQuery> ParseCacheQuery(const std::string& bytes) {
  Body body(bytes, BodyForm::kJson,
            {"token_ids", "instances", "model_name", "lora_id", "lora_name"},
            Body::Others::kIgnore);
  for (const std::string_view key : {"token_ids", "instances", "model_name"}) {
    if (!body.Get(key)) body.Fail("missing", key, fmt::format("missing key: {}", key));
  }
  for (const std::string_view key : {"token_ids", "instances"}) {
    if (const auto value = body.Get(key); value && value->kind() != Value::Kind::kArray) {
      body.Fail("not_array", key, fmt::format("the value of {} is not an array", key));
    }
  }
  for (const std::string_view key : {"model_name", "lora_name"}) {
    if (const auto value = body.Get(key); value && value->kind() != Value::Kind::kText) {
      body.Fail("invalid_type", key, fmt::format("the value of: {} is not a string", key));
    }
  }
  if (const auto id = body.Get("lora_id"); id && !id->AsReal()) {
    body.Fail("invalid_type", "lora_id", "the value of: lora_id is not a number");
  }
  CacheQuery query;
  query.model = body.Text("model_name");
  query.lora_name = body.Text("lora_name");
  // That generation read any number, and took its whole part.
  const auto lora_id = body.Real("lora_id", -1, static_cast<double>(kMaxNumber));
  if (query.lora_name.empty() && lora_id && *lora_id >= 0) {
    query.lora_name = std::to_string(static_cast<int64_t>(*lora_id));
  }
  query.tokens = body.Tokens("token_ids", Body::Packed::kNo, kLeastGoToken);
  query.hosts = body.Texts("instances");
  return body.Finish(std::move(query));
}

}  // namespace conductor::serve
