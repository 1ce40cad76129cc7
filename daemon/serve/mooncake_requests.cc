#include "daemon/serve/mooncake_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/registration_json.h"
#include "lib/base/unaligned_numbers.h"

namespace conductor::serve {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr std::string_view kNotText = "must be a string";
constexpr std::string_view kRequired = "is required";

RequestError Wrong(std::string_view reason, std::string_view field, std::string_view what) {
  return RequestError{
      fmt::format("{} {}", field, what), std::string(reason), std::string(field), {}};
}

RequestError UnknownField(std::string_view name) {
  return RequestError{
      fmt::format("unsupported request field: {}", Shown(name)), "unknown_field", Shown(name), {}};
}

const RequestError kKeyIsNoText{"map keys must be strings", "invalid_msgpack", "", {}};

// A body whose root is a map, or how its generation says that it is not.
Parsed<Document> ParseMap(const std::string& bytes, BodyForm form, const RequestError& no_json) {
  auto document = Document::Parse(bytes, form, Document::Rest::kIgnore);
  const bool json = form == BodyForm::kJson;
  if (!document) {
    return tl::unexpected(json ? no_json
                               : RequestError{"Invalid msgpack object", "invalid_msgpack", "", {}});
  }
  if (document->root().kind() != Value::Kind::kMap) {
    return tl::unexpected(
        json ? no_json
             : RequestError{"request body must be a msgpack map", "invalid_msgpack", "", {}});
  }
  return *std::move(document);
}

// ---- /query ----

class QueryReader {
 public:
  explicit QueryReader(BodyForm form) : json_(form == BodyForm::kJson) {}

  [[nodiscard]] Parsed<StrictQuery> Read(Value map) && {
    json_ ? InFixedOrder(map) : InTheOrderSent(map);
    if (error_) return tl::unexpected(*std::move(error_));
    return std::move(strict_);
  }

 private:
  struct Field {
    std::string_view name;
    void (QueryReader::*read)(Value);
    bool required;
  };
  static const std::array<Field, 7> kFields;

  static size_t IndexOf(std::string_view name) {
    return static_cast<size_t>(std::ranges::find(kFields, name, &Field::name) - kFields.begin());
  }

  void InTheOrderSent(Value map) {
    std::array<bool, kFields.size()> seen{};
    map.ForEachEntry([&](std::optional<std::string_view> key, Value value) {
      const size_t index = key ? IndexOf(*key) : kFields.size();
      if (!key) {
        Fail(kKeyIsNoText);
      } else if (index == kFields.size()) {
        Fail(UnknownField(*key));
      } else {
        seen[index] = true;
        (this->*kFields[index].read)(value);
      }
      return !error_;
    });
    for (size_t i = 0; i < kFields.size(); ++i) {
      if (kFields[i].required && !seen[i]) Fail(Wrong("missing", kFields[i].name, kRequired));
    }
  }

  void InFixedOrder(Value map) {
    std::array<std::optional<Value>, kFields.size()> values{};
    map.ForEachEntry([&](std::optional<std::string_view> key, Value value) {
      const size_t index = IndexOf(key.value_or(""));
      if (index == kFields.size()) {
        Fail(UnknownField(key.value_or("")));
      } else {
        values[index] = value;
      }
      return !error_;
    });
    for (size_t i = 0; i < kFields.size() && !error_; ++i) {
      if (values[i]) {
        (this->*kFields[i].read)(*values[i]);
      } else if (kFields[i].required) {
        Fail(Wrong("missing", kFields[i].name, kRequired));
      }
    }
  }

  void Fail(RequestError error) {
    if (!error_) error_ = std::move(error);
  }
  std::string Text(std::string_view field, Value value) {
    const auto text = value.AsText();
    if (!text) Fail(Wrong("invalid_type", field, kNotText));
    return std::string(text.value_or(""));
  }
  // Engines hash both as UTF-8.
  void CheckHashable(const std::string& text) { strict_.hashable &= simdjson::validate_utf8(text); }

  void Model(Value value) {
    strict_.query.model = Text("model", value);
    if (strict_.query.model.empty()) Fail(Wrong("invalid_value", "model", "must not be empty"));
  }
  void BlockSize(Value value) {
    const auto size = value.AsInt64();
    // The JSON generation takes what is above 64 bits for no integer at all.
    if (value.kind() != Value::Kind::kInteger || (json_ && !size)) {
      return Fail(Wrong("invalid_type", "block_size", "must be an integer"));
    }
    if (!size || *size <= 0) {
      return Fail(Wrong("out_of_range", "block_size",
                        json_ ? "must be greater than zero" : "must be a positive integer"));
    }
    // No engine can be registered with as many tokens in a block as the largest.
    constexpr int64_t kMost = std::numeric_limits<uint32_t>::max();
    strict_.query.block_size = static_cast<uint32_t>(std::min(*size, kMost));
  }
  void TokenIds(Value value) {
    if (const auto bytes = value.AsBytes()) return PackedTokens(*bytes);
    if (value.kind() != Value::Kind::kArray) {
      return Fail(json_ ? Wrong("not_array", "token_ids", "must be an array")
                        : Wrong("invalid_type", "token_ids", "must be a bin or an array"));
    }
    std::vector<TokenId>& tokens = strict_.query.tokens;
    const auto fits = [](TokenId token) { return token <= kMaxInt32; };
    if (value.CopyTokens(tokens) && std::ranges::all_of(tokens, fits)) return;
    tokens.clear();
    value.ForEachItem([&](Value token) {
      ReadToken(token);
      return !error_;
    });
  }
  void PackedTokens(std::string_view bytes) {
    std::vector<TokenId>& tokens = strict_.query.tokens;
    if (bytes.size() % sizeof(TokenId) != 0) {
      return Fail(Wrong("invalid_value", "token_ids", "bin size must be a multiple of 4"));
    }
    AssignNumbers(tokens, bytes.data(), bytes.size() / sizeof(TokenId));
  }
  // One below zero is taken and matches nothing.
  void ReadToken(Value value) {
    std::vector<TokenId>& tokens = strict_.query.tokens;
    RequestError error;
    const auto number = value.AsInt64();
    if (value.kind() != Value::Kind::kInteger) {
      error = Wrong("invalid_type", "token_ids",
                    json_ ? "element must be a JSON integer" : "element must be an integer");
    } else if (!number || *number > kMaxInt32 || *number < -kMaxInt32 - 1) {
      error = Wrong("out_of_range", "token_ids", "element is outside the int32 range");
    } else {
      tokens.push_back(static_cast<TokenId>(*number));
      return;
    }
    error.index = tokens.size();
    Fail(std::move(error));
  }
  void TenantId(Value value) {
    const std::string tenant = Text("tenant_id", value);
    strict_.query.tenant = tenant.empty() ? "default" : tenant;
  }
  void LoraName(Value value) {
    strict_.query.lora_name = Text("lora_name", value);
    CheckHashable(strict_.query.lora_name);
  }
  void CacheSalt(Value value) {
    if (value.is_nil()) return;
    const auto salt = value.AsText();
    if (!salt) return Fail(Wrong("invalid_type", "cache_salt", "must be a string or null"));
    // An empty one is none, and does not take an earlier one back.
    if (salt->empty()) return;
    strict_.query.cache_salt = *salt;
    CheckHashable(strict_.query.cache_salt);
  }
  void InstanceId(Value value) { strict_.query.instances = {Text("instance_id", value)}; }

  const bool json_;
  StrictQuery strict_;
  std::optional<RequestError> error_;
};

// In the order in which the JSON generation checks them, and MessagePack's what is missing.
const std::array<QueryReader::Field, 7> QueryReader::kFields = {{
    {"model", &QueryReader::Model, true},
    {"block_size", &QueryReader::BlockSize, true},
    {"token_ids", &QueryReader::TokenIds, true},
    {"tenant_id", &QueryReader::TenantId, false},
    {"lora_name", &QueryReader::LoraName, false},
    {"cache_salt", &QueryReader::CacheSalt, false},
    {"instance_id", &QueryReader::InstanceId, false},
}};

// ---- /register and /unregister ----

// The members of a map; of one given twice the first.
class StrictFields {
 public:
  // `known(name)`: whether it may be there.
  template <typename Known>
  void Take(Value map, Known&& known) {
    map.ForEachEntry([&](std::optional<std::string_view> key, Value value) {
      if (!key) {
        Fail(kKeyIsNoText);
      } else if (!known(*key)) {
        Fail(UnknownField(*key));
      } else if (members_.size() == RequestBody::kMaxMembers) {
        Fail(
            RequestError{fmt::format("more than {} members", members_.size()), "too_many", "", {}});
      } else if (!Get(*key)) {
        members_.emplace_back(*key, value);
      }
      return !error_;
    });
  }

  [[nodiscard]] std::optional<Value> Get(std::string_view name) const {
    const auto found = std::ranges::find(members_, name, &Member::first);
    return found == members_.end() ? std::nullopt : std::optional(found->second);
  }
  [[nodiscard]] const std::vector<std::pair<std::string_view, Value>>& members() const {
    return members_;
  }

  void Fail(RequestError error) {
    if (!error_) error_ = std::move(error);
  }
  [[nodiscard]] const std::optional<RequestError>& error() const { return error_; }

  // "" when absent.
  std::string Text(std::string_view name) {
    const auto value = Get(name);
    if (!value) return {};
    const auto text = value->AsText();
    if (!text) Fail(Wrong("invalid_type", name, kNotText));
    return std::string(text.value_or(""));
  }
  std::string RequiredText(std::string_view name) {
    if (!Get(name)) Fail(Wrong("missing", name, kRequired));
    std::string text = Text(name);
    if (text.empty()) Fail(Wrong("invalid_value", name, "must not be empty"));
    return text;
  }

 private:
  using Member = std::pair<std::string_view, Value>;

  std::vector<Member> members_;
  std::optional<RequestError> error_;
};

constexpr std::array<std::string_view, 5> kProfileFields = {
    "strategy", "algorithm", "python_hash_seed", "index_projection", "hash_block_size"};

constexpr std::array<std::string_view, 3> kUnregisterFields = {"instance_id", "tenant_id",
                                                               "dp_rank"};

// What ReadRegistration() knows beside upstream's fields and Conductor's own.
constexpr std::array<std::string_view, 4> kOtherGenerations = {"ip", "port", "lora_id", "model"};

template <typename Names>
auto IsOneOf(const Names& names) {
  return [&names](std::string_view name) { return std::ranges::find(names, name) != names.end(); };
}

void CheckBlockSize(StrictFields& fields) {
  const auto value = fields.Get("block_size");
  if (!value) return fields.Fail(Wrong("missing", "block_size", kRequired));
  const auto size = value->AsInt64();
  if (!size) return fields.Fail(Wrong("invalid_type", "block_size", "must be an integer"));
  if (*size <= 0) fields.Fail(Wrong("out_of_range", "block_size", "must be greater than zero"));
}

void CheckCacheGroup(StrictFields& fields) {
  const auto value = fields.Get("cache_group");
  if (!value || value->is_nil()) return;
  const auto group = value->AsInt64();
  if (!group) {
    return fields.Fail(Wrong("invalid_type", "cache_group", "must be an integer or null"));
  }
  if (*group == 0) return;
  fields.Fail(RequestError{"only cache group zero is supported", "unsupported", "cache_group", {}});
}

// "random", ASCII digits up to 2^32 - 1, or what vLLM takes where PYTHONHASHSEED is not set.
std::string_view SeedProblem(std::string_view seed) {
  if (seed == "random" || seed == hash::HashProfile{}.seed) return {};
  if (!std::ranges::all_of(seed, [](char c) { return c >= '0' && c <= '9'; })) {
    return "must be \"random\" or ASCII decimal text in 0..4294967295";
  }
  const size_t zeros = std::min(seed.find_first_not_of('0'), seed.size());
  constexpr std::string_view kMost = "4294967295";
  const std::string_view digits = seed.substr(zeros);
  const bool fits =
      digits.size() < kMost.size() || (digits.size() == kMost.size() && digits <= kMost);
  return fits ? "" : "must be in range 0..4294967295";
}

RequestError Unsupported(std::string_view what, std::string_view field, const std::string& value) {
  return RequestError{fmt::format("unsupported {}: {}", what, Shown(value)),
                      "invalid_value",
                      std::string(field),
                      {}};
}

void CheckProfileValues(StrictFields& profile) {
  const std::string strategy = profile.RequiredText("strategy");
  const std::string algorithm = profile.RequiredText("algorithm");
  const std::string seed = profile.RequiredText("python_hash_seed");
  const std::string projection = profile.RequiredText("index_projection");
  if (profile.error()) return;
  if (!hash::ParseHashAlgorithm(algorithm)) {
    profile.Fail(Unsupported("hash algorithm", "algorithm", algorithm));
  } else if (strategy != "vllm_v1") {
    profile.Fail(Unsupported("hash strategy", "strategy", strategy));
  } else if (projection != "low64_be") {
    profile.Fail(Unsupported("index projection", "index_projection", projection));
  } else if (const auto problem = SeedProblem(seed); !problem.empty()) {
    profile.Fail(Wrong("invalid_value", "python_hash_seed", problem));
  }
}

void CheckHashProfile(StrictFields& fields, BodyForm form) {
  const auto value = fields.Get("hash_profile");
  if (!value) return;
  if (value->kind() != Value::Kind::kMap) {
    return fields.Fail(Wrong("invalid_type", "hash_profile",
                             form == BodyForm::kJson ? "must be an object" : "must be a map"));
  }
  StrictFields profile;
  profile.Take(*value, IsOneOf(kProfileFields));
  if (!profile.error()) CheckProfileValues(profile);
  if (profile.error()) fields.Fail(*profile.error());
}

// In its exact spelling, as upstream, but of Conductor's types.
void CheckType(StrictFields& fields) {
  const std::string text = fields.Text("type");
  const auto type = ParsePublisherType(text);
  if (type && PublisherTypeName(*type) == text) return;
  fields.Fail(Wrong("invalid_value", "type", "must be vLLM or Mooncake"));
}

void CheckRegisterRank(StrictFields& fields) {
  const auto value = fields.Get("dp_rank");
  if (!value) {
    // A registration for all ranks begins with rank 0.
    const auto ranks = fields.Get("dp_size");
    if (!ranks || ranks->is_nil()) fields.Fail(Wrong("missing", "dp_rank", kRequired));
    return;
  }
  const auto rank = value->AsInt64();
  if (!rank) return fields.Fail(Wrong("invalid_type", "dp_rank", "must be an integer"));
  if (*rank < 0 || *rank > kMaxInt32) {
    fields.Fail(Wrong("out_of_range", "dp_rank", "must be a non-negative int"));
  }
}

// Upstream's checks in upstream's order.
void CheckRegister(StrictFields& fields, BodyForm form) {
  for (const std::string_view name : {"endpoint", "type", "modelname", "instance_id"}) {
    (void)fields.RequiredText(name);
  }
  CheckBlockSize(fields);
  for (const std::string_view name : {"replay_endpoint", "lora_name", "tenant_id"}) {
    (void)fields.Text(name);
  }
  CheckCacheGroup(fields);
  CheckHashProfile(fields, form);
  CheckType(fields);
  CheckRegisterRank(fields);
}

// The members as the reader of registrations takes them.
nlohmann::ordered_json MembersOf(StrictFields& fields) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const auto& [name, value] : fields.members()) {
    nlohmann::ordered_json& member = object[std::string(name)] = Shallow(value);
    if (value.kind() != Value::Kind::kMap) continue;
    StrictFields nested;
    nested.Take(value, [](std::string_view) { return true; });
    for (const auto& [inner, of] : nested.members()) member[std::string(inner)] = Shallow(of);
    if (nested.error()) fields.Fail(*nested.error());
  }
  return object;
}

// The first of them in the order sent.
void RefuseUnknown(const std::vector<FieldName>& unknown, StrictFields& fields) {
  for (const auto& [name, value] : fields.members()) {
    const bool known = std::ranges::none_of(unknown, [name](const FieldName& field) {
      return field == FieldName{{}, std::string(name)};
    });
    if (!known || IsOneOf(kOtherGenerations)(name)) fields.Fail(UnknownField(name));
  }
  for (const FieldName& field : unknown) {
    if (field.object == "ttl") fields.Fail(UnknownField(field.Dotted()));
  }
}

}  // namespace

Parsed<StrictQuery> ParseStrictQuery(const std::string& bytes, BodyForm form) {
  return ParseMap(bytes, form, {"Invalid JSON object", "invalid_json", "", {}})
      .and_then(
          [form](const Document& document) { return QueryReader(form).Read(document.root()); });
}

Parsed<RegisterRequest> ParseStrictRegister(const std::string& bytes, BodyForm form) {
  const auto document = ParseMap(bytes, form, {"Invalid JSON", "", "", {}});
  if (!document) return tl::unexpected(document.error());
  StrictFields fields;
  fields.Take(document->root(), [](std::string_view) { return true; });
  RegistrationFields read = ReadRegistration(MembersOf(fields), std::nullopt);
  RefuseUnknown(read.unknown, fields);
  if (!fields.error()) CheckRegister(fields, form);
  if (fields.error()) return tl::unexpected(*fields.error());
  return RegisterFrom(std::move(read));
}

Parsed<std::string> ParseStrictUnregister(const std::string& bytes, BodyForm form) {
  const auto document = ParseMap(bytes, form, {"Invalid JSON", "", "", {}});
  if (!document) return tl::unexpected(document.error());
  StrictFields fields;
  fields.Take(document->root(), IsOneOf(kUnregisterFields));
  Registration registration;
  registration.instance_id = fields.RequiredText("instance_id");
  if (std::string tenant = fields.Text("tenant_id"); !tenant.empty()) {
    registration.tenant = std::move(tenant);
  }
  const auto value = fields.Get("dp_rank");
  if (!value) fields.Fail(Wrong("missing", "dp_rank", kRequired));
  const auto rank = value ? value->AsInt64() : std::nullopt;
  if (!rank || *rank < 0 || *rank > kMaxInt32) {
    fields.Fail(Wrong("invalid_value", "dp_rank", "must be a non-negative int"));
  }
  if (fields.error()) return tl::unexpected(*fields.error());
  registration.dp_rank = static_cast<uint32_t>(*rank);
  return registration.Key();
}

}  // namespace conductor::serve
