#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "daemon/proxy/options.h"
#include "lib/base/endpoint.h"
#include "lib/base/number.h"

namespace conductor::proxy {
namespace {

using Json = nlohmann::ordered_json;
using Reader = std::function<Status(const Json& value, const std::string& where)>;

std::string_view TypeName(const Json& value) { return value.type_name(); }

tl::unexpected<Error> Mistyped(const Json& value, const std::string& where,
                               std::string_view expected) {
  return Fail(fmt::format("is of type {}", TypeName(value)), where, std::string(expected));
}

Reader Text(std::string& target) {
  return [&target](const Json& value, const std::string& where) -> Status {
    if (!value.is_string()) return Mistyped(value, where, "a string");
    target = value.get<std::string>();
    return {};
  };
}

template <typename T>
Reader Integer(T& target, uint64_t min, uint64_t max) {
  return [&target, min, max](const Json& value, const std::string& where) -> Status {
    const auto expected = fmt::format("an integer from {} to {}", min, max);
    if (!value.is_number_unsigned()) return Mistyped(value, where, expected);
    if (value.get<uint64_t>() < min || value.get<uint64_t>() > max) {
      return Fail(fmt::format("{} is out of range", value.dump()), where, expected);
    }
    target = static_cast<T>(value.get<uint64_t>());
    return {};
  };
}

Reader Bool(bool& target) {
  return [&target](const Json& value, const std::string& where) -> Status {
    if (!value.is_boolean()) return Mistyped(value, where, "true or false");
    target = value.get<bool>();
    return {};
  };
}

Reader Seconds(Duration& target) {
  return [&target](const Json& value, const std::string& where) -> Status {
    if (!value.is_number()) return Mistyped(value, where, "a number of seconds");
    const double seconds = value.get<double>();
    if (!(seconds > 0) || seconds > 1e6) {
      return Fail(fmt::format("{} is out of range", value.dump()), where, "seconds above 0");
    }
    target = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    return {};
  };
}

// An object with these members; any other is an error, and so is one that is missing of `required`.
Status ReadObject(const Json& object, const std::string& where,
                  const std::map<std::string, Reader>& readers,
                  std::initializer_list<const char*> required = {}) {
  if (!object.is_object()) return Mistyped(object, where, "an object");
  const std::string prefix = where.ends_with(": ") ? where : where + ".";
  for (const auto& [key, value] : object.items()) {
    const auto reader = readers.find(key);
    if (reader == readers.end()) {
      std::string known;
      for (const auto& [name, ignored] : readers) known += (known.empty() ? "" : ", ") + name;
      return Fail("is not known", prefix + key, known);
    }
    if (const auto read = reader->second(value, prefix + key); !read) return read;
  }
  for (const char* name : required) {
    if (!object.contains(name)) return Fail("is missing", prefix + name);
  }
  return {};
}

Status ReadArray(const Json& array, const std::string& where, const Reader& each) {
  if (!array.is_array()) return Mistyped(array, where, "an array");
  for (size_t i = 0; i < array.size(); ++i) {
    if (const auto read = each(array[i], fmt::format("{}[{}]", where, i)); !read) return read;
  }
  return {};
}

// An address that is read by `parse`.
template <typename Parse>
Status ReadAddress(const Json& value, const std::string& where, Parse parse) {
  if (!value.is_string()) return Mistyped(value, where, "a string");
  const auto parsed = parse(value.get<std::string>());
  if (!parsed) return tl::unexpected(Error(parsed.error()).Within(where));
  return {};
}

Status ReadEvents(const Json& array, const std::string& where, EngineSpec& engine) {
  return ReadArray(array, where, [&](const Json& value, const std::string& at) -> Status {
    EventSource source;
    const auto check = [](std::string& target) -> Reader {
      return [&target](const Json& text, const std::string& place) -> Status {
        auto read = ReadAddress(text, place, Endpoint::Parse);
        if (read) target = text.get<std::string>();
        return read;
      };
    };
    const auto read = ReadObject(value, at,
                                 {{"endpoint", check(source.endpoint)},
                                  {"replay_endpoint", check(source.replay_endpoint)},
                                  {"dp_rank", Integer(source.dp_rank, 0, INT32_MAX)}},
                                 {"endpoint"});
    if (read) engine.events.push_back(source);
    return read;
  });
}

Reader BootstrapPort(std::optional<uint16_t>& target) {
  return [&target](const Json& value, const std::string& where) -> Status {
    const auto port =
        EngineSpec::ParseBootstrapPort(value.is_string() ? value.get<std::string>() : value.dump());
    if (!port) return tl::unexpected(Error(port.error()).Within(where));
    target = *port;
    return {};
  };
}

Status ReadEngines(const Json& array, const std::string& where, bool prefill,
                   std::vector<EngineSpec>& engines) {
  return ReadArray(array, where, [&](const Json& value, const std::string& at) -> Status {
    EngineSpec engine;
    const auto endpoint = [&](const Json& text, const std::string& place) {
      return ReadAddress(text, place, [&](const std::string& address) {
        auto parsed = EngineSpec::Parse(address);
        if (parsed) std::tie(engine.host, engine.port) = std::tie(parsed->host, parsed->port);
        return parsed;
      });
    };
    const auto events = [&](const Json& sources, const std::string& place) {
      return ReadEvents(sources, place, engine);
    };
    std::map<std::string, Reader> readers = {{"instance_id", Text(engine.instance_id)},
                                             {"http_endpoint", endpoint},
                                             {"registrations", events}};
    if (prefill) readers["bootstrap_port"] = BootstrapPort(engine.bootstrap_port);
    const auto read = ReadObject(value, at, readers, {"http_endpoint"});
    if (read) engines.push_back(engine);
    return read;
  });
}

// As the Mooncake Conductor has it; the fields that say how it is to be projected have one value
// each, and nothing is decided by them.
Status ReadHashProfile(const Json& value, const std::string& where, Namespace& prompts) {
  std::string ignored;
  return ReadObject(value, where,
                    {{"algorithm", Text(prompts.hash_algorithm)},
                     {"python_hash_seed", Text(prompts.python_hash_seed)},
                     {"strategy", Text(ignored)},
                     {"index_projection", Text(ignored)}},
                    {"algorithm", "python_hash_seed"});
}

Status ReadPrefill(const Json& value, const std::string& where, ProxyOptions& options) {
  Namespace& prompts = options.prompts;
  const Reader config = [&](const Json& object, const std::string& at) {
    return ReadObject(object, at,
                      {{"modelname", Text(prompts.model)},
                       {"block_size", Integer(prompts.block_size, 0, INT32_MAX)},
                       {"tenant_id", Text(prompts.tenant)},
                       {"lora_name", Text(prompts.lora_name)},
                       {"hash_profile", [&](const Json& profile, const std::string& place) {
                          return ReadHashProfile(profile, place, prompts);
                        }}});
  };
  const Reader instances = [&](const Json& array, const std::string& at) {
    return ReadEngines(array, at, true, options.prefillers);
  };
  return ReadObject(value, where, {{"config", config}, {"instances", instances}}, {"instances"});
}

Status ReadConductor(const Json& value, const std::string& where, ProxyOptions& options) {
  const Reader address = [&](const Json& text, const std::string& at) {
    return ReadAddress(text, at, [&](const std::string& given) {
      auto url = ConductorAddress(given);
      if (url) options.conductors.push_back(*url);
      return url;
    });
  };
  const Reader addresses = [&](const Json& texts, const std::string& at) {
    return texts.is_array() ? ReadArray(texts, at, address) : address(texts, at);
  };
  return ReadObject(value, where,
                    {{"address", addresses},
                     {"query_timeout_seconds", Seconds(options.query_timeout)},
                     {"registration_timeout_seconds", Seconds(options.registration_timeout)}});
}

Status ReadOwn(const Json& value, const std::string& where, ProxyOptions& options) {
  std::map<std::string, Reader> readers = {
      {"host", Text(options.host)},
      {"port", Integer(options.port, 0, 65535)},
      {"embedded", Bool(options.embedded)},
      {"publishers", Text(options.publishers_file)},
      {"prefill_required", Bool(options.prefill_required)},
      {"override_remote_host", Bool(options.choreography.override_remote_host)},
      {"metaserver", Text(options.choreography.metaserver)},
      {"access_log", Text(options.access_log)}};
  for (const ProxySetting& setting : ProxySettings()) {
    readers[setting.Key()] = [&](const Json& given, const std::string& at) -> Status {
      if (!given.is_string() && !given.is_number_unsigned()) {
        return Mistyped(given, at, setting.shape == "N" ? "an integer" : "a string");
      }
      const std::string text = given.is_string() ? given.get<std::string>() : given.dump();
      const auto set = setting.set(text, options);
      if (!set) return tl::unexpected(Error(set.error()).Within(at));
      return {};
    };
  }
  return ReadObject(value, where, readers);
}

}  // namespace

Status ReadProxyJson(std::string_view json, std::string_view name, ProxyOptions& options) {
  Json root;
  try {
    root = Json::parse(json);
  } catch (const Json::parse_error& error) {
    return Fail(fmt::format("is no JSON: {}", error.what()), std::string(name));
  }
  const auto with = [&](auto read) -> Reader {
    return [&options, read](const Json& value, const std::string& where) {
      return read(value, where, options);
    };
  };
  const Reader decode = [&](const Json& value, const std::string& where) {
    return ReadObject(value, where,
                      {{"instances",
                        [&](const Json& array, const std::string& at) {
                          return ReadEngines(array, at, false, options.decoders);
                        }}},
                      {"instances"});
  };
  return ReadObject(root, fmt::format("{}: ", name),
                    {{"conductor", with(ReadConductor)},
                     {"prefill", with(ReadPrefill)},
                     {"decode", decode},
                     {"proxy", with(ReadOwn)}});
}

Status ReadProxyFile(const std::string& path, ProxyOptions& options) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) return Fail("cannot be read", path);
  return ReadProxyJson(text.str(), path, options);
}

}  // namespace conductor::proxy
