#include "daemon/serve/registration_json.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <simdjson.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <string_view>
#include <utility>

#include "daemon/serve/json_document.h"
#include "lib/base/endpoint.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxNumber = 2147483647;

// The members of one object, read by name.
class Fields {
 public:
  Fields(const Json& object, std::string name, RegistrationFields& result)
      : object_(object), name_(std::move(name)), result_(result) {}

  void Problem(std::string_view field, std::string_view reason, std::string what,
               std::string expected) {
    result_.problems.push_back(FieldProblem{
        {name_, std::string(field)}, std::string(reason), std::move(what), std::move(expected)});
  }
  void Note(std::string_view field, std::string text) {
    result_.notes.push_back(FieldNote{{name_, std::string(field)}, std::move(text)});
  }

  // Nothing when it is absent or null.
  const Json* Get(std::string_view field) {
    asked_.push_back(field);
    const auto found = object_.find(field);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  // "" when absent.
  std::string Text(std::string_view field) {
    const Json* value = Get(field);
    if (value == nullptr) return {};
    if (value->is_string()) {
      const auto& text = value->get_ref<const std::string&>();
      if (simdjson::validate_utf8(text)) return text;
      // Names are told in JSON and as labels of metrics, which take nothing else.
      Problem(field, "invalid_value", fmt::format("{} is not UTF-8", DescribeJson(*value)),
              "a string in UTF-8");
      return {};
    }
    Problem(field, "invalid_type", fmt::format("{} is not a text", DescribeJson(*value)),
            "a string");
    return {};
  }

  // A text that generations call by two names.
  std::string Text(std::string_view field, std::string_view other) {
    std::string first = Text(field);
    std::string second = Text(other);
    if (!Has(field)) return second;
    if (Has(other) && first != second) {
      Problem(other, "invalid_value", fmt::format("'{}' and {} '{}' differ", second, field, first),
              "one of the two fields");
    }
    return first;
  }

  // `text` is what was read of `field`, which must be there.
  void Require(std::string_view field, std::string_view text, std::string expected) {
    if (!Has(field)) {
      Problem(field, "missing", "is missing", std::move(expected));
    } else if (text.empty() && object_.find(field)->is_string()) {
      Problem(field, "invalid_value", "is empty", std::move(expected));
    }
  }

  std::optional<int64_t> Integer(std::string_view field, std::string_view what, int64_t min,
                                 int64_t max) {
    const Json* value = Get(field);
    if (value == nullptr) return std::nullopt;
    const bool is_integer = value->is_number_integer();
    const bool too_large =
        value->is_number_unsigned() &&
        value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    if (is_integer && !too_large) {
      const auto number = value->get<int64_t>();
      if (number >= min && number <= max) return number;
    }
    Problem(field, is_integer ? "out_of_range" : "invalid_type",
            fmt::format("{} is not {}", DescribeJson(*value), what),
            fmt::format("an integer from {} to {}", min, max));
    return std::nullopt;
  }

  std::optional<uint32_t> Number(std::string_view field, std::string_view what, int64_t min = 0,
                                 int64_t max = kMaxNumber) {
    const auto number = Integer(field, what, min, max);
    if (!number) return std::nullopt;
    return static_cast<uint32_t>(*number);
  }

  const Json* Object(std::string_view field, std::string_view what) {
    const Json* value = Get(field);
    if (value == nullptr || value->is_object()) return value;
    Problem(field, "invalid_type", fmt::format("{} is not {}", DescribeJson(*value), what),
            "an object");
    return nullptr;
  }

  // Which of the words it is; the first when absent.
  size_t OneOf(std::string_view field, std::string_view what,
               std::initializer_list<std::string_view> words) {
    const std::string text = Text(field);
    const auto found = std::ranges::find(words, text);
    if (found != words.end()) return static_cast<size_t>(found - words.begin());
    if (!text.empty()) {
      const std::string_view last = *(words.end() - 1);
      Problem(field, "invalid_value", fmt::format("'{}' is not {}", text, what),
              fmt::format("{} or {}", fmt::join(words.begin(), words.end() - 1, ", "), last));
    }
    return 0;
  }
  bool IsSecond(std::string_view field, std::string_view what, std::string_view first,
                std::string_view second) {
    return OneOf(field, what, {first, second}) == 1;
  }

  [[nodiscard]] bool Has(std::string_view field) const {
    const auto found = object_.find(field);
    return found != object_.end() && !found->is_null();
  }

  void TellUnknown() {
    for (const auto& [key, value] : object_.items()) {
      if (std::ranges::find(asked_, key) == asked_.end()) result_.unknown.push_back({name_, key});
    }
  }

 private:
  const Json& object_;
  const std::string name_;
  RegistrationFields& result_;
  std::vector<std::string_view> asked_;
};

void ReadType(Fields& fields, Registration& registration) {
  const std::string text = fields.Text("type");
  if (text.empty()) return;
  if (const auto type = ParsePublisherType(text)) {
    registration.type = *type;
  } else {
    fields.Problem("type", "invalid_value", type.error().what, type.error().expected);
  }
}

// `ip` and `port`, as the first generations have it: vLLM's replay socket is one port further on
// unless the object says where it is, or "" that there is none.
void ReadIpAndPort(Fields& fields, RegistrationFields& result) {
  constexpr const char* kExpected = "ip and port, or endpoint as tcp://HOST:PORT";
  Registration& registration = result.registration;
  std::string host = fields.Text("ip");
  fields.Require("ip", host, kExpected);
  const auto port = fields.Integer("port", "a port", 1, 65535);
  if (!fields.Has("port")) fields.Problem("port", "missing", "is missing", kExpected);
  if (host.empty() || !port) return;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  const Endpoint events{"tcp", host, static_cast<uint16_t>(*port)};
  registration.endpoint = events.ToString();
  const bool is_vllm =
      registration.type == PublisherType::kVllm || registration.type == PublisherType::kVllmAscend;
  if (!is_vllm || fields.Has("replay_endpoint")) return;
  const auto replay = events.PortPlus(1);
  if (result.dp_size > 1) {
    fields.Note("port", "replay is not asked for at the next port, which is the next rank's");
  } else if (replay) {
    result.implied_replay = replay->ToString();
  } else {
    fields.Note("port", "there is no next port for replay, so none is asked for");
  }
}

void ReadAddresses(Fields& fields, RegistrationFields& result) {
  Registration& registration = result.registration;
  registration.replay_endpoint = fields.Text("replay_endpoint");
  registration.mode = static_cast<stream::ListenMode>(
      fields.OneOf("mode", "a way to listen", {"connect", "bind", "ingest"}));
  registration.peer = fields.Text("peer");
  registration.topic = fields.Text("topic");
  registration.endpoint = fields.Text("endpoint");
  const bool has_ip_and_port = fields.Get("ip") != nullptr || fields.Get("port") != nullptr;
  if (registration.mode == stream::ListenMode::kIngest && !has_ip_and_port) return;
  if (!has_ip_and_port) {
    fields.Require("endpoint", registration.endpoint,
                   "tcp://HOST:PORT or ipc://PATH; or ip and port");
  } else if (fields.Has("endpoint")) {
    fields.Problem("endpoint", "invalid_value", "stands beside ip or port",
                   "either endpoint, or ip and port");
  } else {
    ReadIpAndPort(fields, result);
  }
}

// -1 is none; a name wins over an id.
void ReadLora(Fields& fields, Registration& registration) {
  registration.lora_name = fields.Text("lora_name");
  const auto id = fields.Integer("lora_id", "a LoRA id", -1, kMaxNumber);
  if (!id || *id < 0) return;
  if (registration.lora_name.empty()) {
    registration.lora_name = fmt::format("{}", *id);
  } else {
    fields.Note("lora_id", "not used where lora_name names the adapter");
  }
}

void ReadCacheGroup(Fields& fields) {
  const Json* group = fields.Get("cache_group");
  if (group == nullptr || *group == 0) return;
  fields.Problem("cache_group", group->is_number_integer() ? "unsupported" : "invalid_type",
                 fmt::format("{} is not a cache group that can be followed", DescribeJson(*group)),
                 "0 or null");
}

// {"cpu": "10m", "disk": "1h"}
void ReadTtl(Fields& fields, RegistrationFields& result) {
  const Json* object = fields.Object("ttl", "times to live");
  if (object == nullptr) return;
  Fields tiers(*object, "ttl", result);
  for (const Tier tier : kTiers) {
    const std::string_view name = TierName(tier);
    const std::string text = tiers.Text(name);
    if (!tiers.Has(name) || !object->find(name)->is_string()) continue;
    const auto time = ParseDuration(text);
    if (time && *time > Duration::zero()) {
      result.registration.ttl[static_cast<size_t>(tier)] = *time;
    } else {
      tiers.Problem(name, "invalid_value",
                    time ? fmt::format("'{}' is too short", text) : time.error().what,
                    "a time above zero: 90s, 10m, 1h; or leave the tier out");
    }
  }
  tiers.TellUnknown();
}

// A member of a hash profile that can only have one value.
void ReadConstant(Fields& profile, std::string_view field, std::string_view only) {
  const std::string text = profile.Text(field);
  if (text.empty() || text == only) return;
  profile.Problem(field, "invalid_value", fmt::format("'{}' is not supported", text),
                  std::string(only));
}

void ReadHashProfile(Fields& fields, RegistrationFields& result) {
  const Json* object = fields.Object("hash_profile", "a hash profile");
  if (object == nullptr) return;
  Fields profile(*object, "hash_profile", result);
  hash::HashProfile read;
  ReadConstant(profile, "strategy", "vllm_v1");
  ReadConstant(profile, "index_projection", "low64_be");
  const std::string algorithm = profile.Text("algorithm");
  profile.Require("algorithm", algorithm, "sha256, sha256_cbor, xxhash or xxhash_cbor");
  if (!algorithm.empty()) {
    if (const auto parsed = hash::ParseHashAlgorithm(algorithm)) {
      read.algorithm = *parsed;
    } else {
      profile.Problem("algorithm", "invalid_value", parsed.error().what, parsed.error().expected);
    }
  }
  const std::string seed = profile.Text("python_hash_seed");
  if (profile.Has("python_hash_seed")) {
    profile.Require("python_hash_seed", seed,
                    "PYTHONHASHSEED as it is written, or leave it out where it is not set");
    read.seed = seed;
  } else if (algorithm.starts_with("xxhash")) {
    profile.Note("algorithm",
                 "without PYTHONHASHSEED vLLM begins its xxhash chains at random, and nothing will "
                 "match: set it, and python_hash_seed to the same");
  }
  read.hash_block_size =
      profile.Number("hash_block_size", "a block size").value_or(read.hash_block_size);
  profile.TellUnknown();
  result.registration.hash_profile = read;
}

// {"model in object keys": "model as queries name it"}
void ReadKeyModels(Fields& fields, RegistrationFields& result) {
  const Json* object = fields.Object("key_models", "a map of models");
  if (object == nullptr) return;
  Fields models(*object, "key_models", result);
  for (const auto& [key, value] : object->items()) {
    const std::string model = models.Text(key);
    models.Require(key, model, "the model as queries name it");
    if (key.empty()) {
      models.Problem(key, "invalid_value", "the model in object keys is empty",
                     "\"MODEL\" or \"PREFIX@MODEL\"");
    } else if (!simdjson::validate_utf8(key)) {
      // As Text() has it for what the key stands for.
      models.Problem(key, "invalid_value", "the model in object keys is not UTF-8",
                     "a string in UTF-8");
    }
    if (!model.empty()) result.registration.pool.key_models[key] = model;
  }
}

void ReadPool(Fields& fields, RegistrationFields& result) {
  PoolRegistration& pool = result.registration.pool;
  if (fields.IsSecond("pool_lookup", "a way to look a pool up", "from_start", "continue")) {
    pool.lookup = index::PoolLookup::kContinue;
  }
  pool.tp_size = fields.Number("tp_size", "a number of ranks", 1);
  pool.kv_heads = fields.Number("kv_heads", "a number of heads", 1);
  pool.pp_size = fields.Number("pp_size", "a number of stages", 1);
  pool.layers = fields.Number("layers", "a number of layers", 1);
  if (const std::string address = fields.Text("admin_endpoint"); !address.empty()) {
    if (auto parsed = ParseAdminEndpoint(address)) {
      pool.admin_endpoint = *std::move(parsed);
    } else {
      fields.Problem("admin_endpoint", "invalid_value", parsed.error().what,
                     parsed.error().expected);
    }
  }
  ReadKeyModels(fields, result);
}

void ReadInstance(Fields& fields, Registration& registration,
                  const std::optional<std::string>& name) {
  registration.instance_id = fields.Text("instance_id");
  if (!name) {
    fields.Require("instance_id", registration.instance_id, "the name that routers know");
    return;
  }
  if (registration.instance_id.empty()) registration.instance_id = *name;
  if (registration.instance_id != *name && !fields.Has("hash_profile")) {
    fields.Note("instance_id",
                "answers use it; the Mooncake Conductor in Go used the name of the entry");
  }
}

}  // namespace

std::string FieldName::Dotted() const { return object.empty() ? name : object + "." + name; }

RegistrationFields ReadRegistration(const nlohmann::ordered_json& object,
                                    const std::optional<std::string>& instance_id) {
  RegistrationFields result;
  Registration& registration = result.registration;
  Fields fields(object, {}, result);
  ReadType(fields, registration);
  result.dp_size = fields.Number("dp_size", "a number of ranks", 1, kMaxDpSize).value_or(1);
  ReadAddresses(fields, result);
  ReadInstance(fields, registration, instance_id);
  registration.model = fields.Text("modelname", "model");
  fields.Require(fields.Has("model") && !fields.Has("modelname") ? "model" : "modelname",
                 registration.model, "the model as queries name it");
  ReadLora(fields, registration);
  // Some generations write what is left open as an empty text.
  if (std::string tenant = fields.Text("tenant_id"); !tenant.empty()) {
    registration.tenant = std::move(tenant);
  }
  registration.block_size = fields.Number("block_size", "a block size").value_or(0);
  registration.dp_rank = fields.Number("dp_rank", "a rank").value_or(0);
  registration.additional_salt = fields.Text("additionalsalt", "additional_salt");
  if (fields.IsSecond("copies", "a way to count copies", "count", "set")) {
    registration.copies = index::CopyMode::kSet;
  }
  ReadCacheGroup(fields);
  registration.incarnation = fields.Text("incarnation");
  ReadTtl(fields, result);
  ReadHashProfile(fields, result);
  registration.bytes_per_block = static_cast<uint64_t>(
      fields.Integer("bytes_per_block", "a size", 0, int64_t{kMaxBytesPerBlock}).value_or(0));
  ReadPool(fields, result);
  fields.TellUnknown();
  return result;
}

nlohmann::ordered_json RegistrationJson(const Registration& registration) {
  Json json{{"type", PublisherTypeName(registration.type)},
            {"instance_id", registration.instance_id},
            {"mode", ListenModeName(registration.mode)},
            {"replay_endpoint", registration.replay_endpoint},
            {"modelname", registration.model},
            {"tenant_id", registration.tenant},
            {"block_size", registration.block_size},
            {"dp_rank", registration.dp_rank}};
  const auto text = [&json](const char* field, const std::string& value) {
    if (!value.empty()) json[field] = value;
  };
  text("endpoint", registration.endpoint);
  text("peer", registration.peer);
  text("topic", registration.topic);
  text("lora_name", registration.lora_name);
  text("additional_salt", registration.additional_salt);
  text("incarnation", registration.incarnation);
  if (registration.copies == index::CopyMode::kSet) json["copies"] = "set";
  if (registration.bytes_per_block != 0) json["bytes_per_block"] = registration.bytes_per_block;
  for (const Tier tier : kTiers) {
    const Duration time = registration.ttl[static_cast<size_t>(tier)];
    if (time > Duration::zero()) json["ttl"][std::string(TierName(tier))] = FormatDuration(time);
  }
  if (const auto& profile = registration.hash_profile) {
    Json& of = json["hash_profile"];
    of["algorithm"] = hash::HashAlgorithmName(profile->algorithm);
    if (!profile->seed.empty()) of["python_hash_seed"] = profile->seed;
    if (profile->hash_block_size != 0) of["hash_block_size"] = profile->hash_block_size;
  }
  const PoolRegistration& pool = registration.pool;
  if (pool.lookup == index::PoolLookup::kContinue) json["pool_lookup"] = "continue";
  const auto number = [&json](const char* field, const std::optional<uint32_t>& value) {
    if (value) json[field] = *value;
  };
  number("tp_size", pool.tp_size);
  number("kv_heads", pool.kv_heads);
  number("pp_size", pool.pp_size);
  number("layers", pool.layers);
  text("admin_endpoint", pool.admin_endpoint);
  if (!pool.key_models.empty()) json["key_models"] = pool.key_models;
  return json;
}

std::string SourceField(const nlohmann::ordered_json& object, const std::string& field) {
  if (field == "endpoint" && !object.contains("endpoint")) return "ip";
  if (field == "modelname" && !object.contains("modelname") && object.contains("model")) {
    return "model";
  }
  return field;
}

}  // namespace conductor::serve
