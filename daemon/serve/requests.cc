#include "daemon/serve/requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "daemon/serve/registration_json.h"

namespace conductor::serve {
namespace {

constexpr int64_t kMaxNumber = RequestBody::kMaxNumber;
constexpr size_t kMaxUnused = 64;  // fields told to a client

using Body = RequestBody;

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

Parsed<Query> ParseMooncakeQuery(const std::string& bytes, BodyForm form) {
  Body body(bytes, form,
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

Parsed<RankedQuery> ParseQuery(const std::string& bytes, BodyForm form) {
  Body body(bytes, form,
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

Parsed<RegisterRequest> ParseRegister(const std::string& bytes, BodyForm form) {
  Body body(bytes, form, {}, Body::Others::kIgnore);
  const nlohmann::ordered_json members = body.Members();
  if (body.failed()) return body.Finish(RegisterRequest());
  return ReadRegister(members);
}

Parsed<RegisterRequest> ReadRegister(const nlohmann::ordered_json& members) {
  RegisterRequest request;
  RegistrationFields fields = ReadRegistration(members, std::nullopt);
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
  query.lora_name = ReadLora(body);
  query.tokens = body.Tokens("token_ids");
  query.hosts = body.Texts("instances");
  return body.Finish(std::move(query));
}

}  // namespace conductor::serve
