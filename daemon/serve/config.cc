#include "daemon/serve/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <system_error>
#include <utility>

#include "daemon/serve/json_document.h"
#include "daemon/serve/reservations.h"
#include "lib/base/endpoint.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

// A thousand publishers take about 400 kB.
constexpr size_t kMaxFileBytes = 4 << 20;
// A file can be wrong in more places than anybody reads.
constexpr size_t kMaxFindings = 200;
constexpr int64_t kMaxNumber = 2147483647;

// What is worth telling about a file, bounded. Notes that say the same of many entries are one.
class Findings {
 public:
  explicit Findings(std::string_view file) : file_(file) {}

  void Problem(Error error) {
    if (problems_.size() < kMaxFindings) {
      problems_.push_back(std::move(error).Within(file_));
    } else {
      ++more_problems_;
    }
  }

  // `path` has `field`, and `text` says what that means.
  void Note(std::string_view path, std::string_view field, std::string_view text) {
    const auto known = notes_.find(std::make_pair(std::string(field), std::string(text)));
    if (known != notes_.end()) {
      ++known->second.count;
    } else if (notes_.size() < kMaxFindings) {
      notes_.emplace(std::make_pair(field, text), NoteLine{JsonMemberPath(path, field), 1});
    } else {
      ++more_notes_;
    }
  }

  void MoveInto(Config& config) {
    if (more_problems_ > 0) {
      problems_.push_back(
          Error{fmt::format("{} more problems are not listed", more_problems_), file_, ""});
    }
    config.problems = std::move(problems_);
    for (const auto& [key, line] : notes_) {
      const std::string others =
          line.count > 1 ? fmt::format(" (and {} more)", line.count - 1) : std::string();
      config.notes.push_back(fmt::format("{}: {}{}: {}", file_, line.path, others, key.second));
    }
    if (more_notes_ > 0) {
      config.notes.push_back(fmt::format("{}: {} more notes are not listed", file_, more_notes_));
    }
  }

 private:
  struct NoteLine {
    std::string path;  // of the first
    size_t count = 0;
  };

  std::string file_;
  std::vector<Error> problems_;
  std::map<std::pair<std::string, std::string>, NoteLine> notes_;
  size_t more_problems_ = 0;
  size_t more_notes_ = 0;
};

Error WrongValue(const Json& value, std::string_view path, std::string_view what,
                 std::string expected) {
  return Error{fmt::format("{} is not {}", DescribeJson(value), what), std::string(path),
               std::move(expected)};
}

// The integer in `value` when it is one from `min` to `max`.
Result<int64_t> ReadInteger(const Json& value, std::string_view path, std::string_view what,
                            int64_t min, int64_t max) {
  const auto wrong = [&] {
    return tl::unexpected(
        WrongValue(value, path, what, fmt::format("an integer from {} to {}", min, max)));
  };
  if (!value.is_number_integer()) return wrong();
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return wrong();
  }
  const auto number = value.get<int64_t>();
  if (number < min || number > max) return wrong();
  return number;
}

// The fields of one publisher entry. Absent and null are the same. Each wrong field is a problem of
// its own, so that one start shows all of them; what nobody asked for is noted at the end.
class Fields {
 public:
  Fields(const Json& entry, std::string path, Findings& findings)
      : entry_(entry), path_(std::move(path)), findings_(findings) {}

  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  void Problem(std::string_view field, std::string what, std::string expected) {
    Problem(Error{std::move(what), JsonMemberPath(path_, field), std::move(expected)});
  }
  void Problem(Error error) {
    findings_.Problem(std::move(error));
    good_ = false;
  }
  void Note(std::string_view field, std::string_view text) { findings_.Note(path_, field, text); }

  const Json* Get(std::string_view field) {
    asked_.push_back(field);
    const auto found = entry_.find(field);
    return found == entry_.end() || found->is_null() ? nullptr : &*found;
  }

  std::optional<std::string> Text(std::string_view field) {
    const Json* value = Get(field);
    if (value == nullptr) return std::nullopt;
    if (value->is_string()) return value->get<std::string>();
    Problem(WrongValue(*value, JsonMemberPath(path_, field), "a text", "a string"));
    return std::nullopt;
  }

  // A text that generations call by two names.
  std::optional<std::string> Text(std::string_view field, std::string_view other) {
    auto first = Text(field);
    auto second = Text(other);
    if (first && second && *first != *second) {
      Problem(other, fmt::format("'{}' and {} '{}' differ", *second, field, *first),
              "one of the two fields");
    }
    return first ? std::move(first) : std::move(second);
  }

  std::optional<int64_t> Integer(std::string_view field, std::string_view what, int64_t min,
                                 int64_t max) {
    const Json* value = Get(field);
    if (value == nullptr) return std::nullopt;
    auto number = ReadInteger(*value, JsonMemberPath(path_, field), what, min, max);
    if (number) return *number;
    Problem(std::move(number.error()));
    return std::nullopt;
  }

  void NoteUnknown() {
    for (const auto& [key, value] : entry_.items()) {
      if (std::ranges::find(asked_, key) == asked_.end()) Note(key, "unknown field, not used");
    }
  }

 private:
  const Json& entry_;
  std::string path_;
  Findings& findings_;
  std::vector<std::string_view> asked_;
  bool good_ = true;
};

// An entry that can be used.
struct Entry {
  const Json* json = nullptr;
  std::string path;
  Registration registration;
  // The replay endpoint that `ip` and `port` imply; the registration has none then. Empty when the
  // entry says itself where replay is, or that there is none.
  std::string implied_replay;
};

// `ip` and `port`, as the first generations have it: vLLM's replay socket is one port further on
// unless the entry says where it is, or "" that there is none.
void ReadIpAndPort(Fields& fields, Entry& entry, bool replay_is_given) {
  std::string host = fields.Text("ip").value_or("");
  const auto port = fields.Integer("port", "a port", 1, 65535);
  if (!fields.good()) return;
  if (host.empty() || !port) {
    fields.Problem(host.empty() ? "ip" : "port", "is missing",
                   "ip and port, or endpoint as tcp://HOST:PORT");
    return;
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  const Endpoint events{"tcp", host, static_cast<uint16_t>(*port)};
  entry.registration.endpoint = events.ToString();
  if (replay_is_given || entry.registration.type != PublisherType::kVllm) return;
  if (const auto replay = events.PortPlus(1)) {
    entry.implied_replay = replay->ToString();
  } else {
    fields.Note("port", "there is no next port for replay, so none is asked for");
  }
}

void ReadAddresses(Fields& fields, Entry& entry) {
  const bool has_endpoint = fields.Get("endpoint") != nullptr;
  const bool has_ip_and_port = fields.Get("ip") != nullptr || fields.Get("port") != nullptr;
  const auto replay = fields.Text("replay_endpoint");
  entry.registration.replay_endpoint = replay.value_or("");
  if (has_endpoint && has_ip_and_port) {
    fields.Problem("endpoint", "stands beside ip or port", "either endpoint, or ip and port");
  } else if (has_endpoint) {
    entry.registration.endpoint = fields.Text("endpoint").value_or("");
  } else {
    ReadIpAndPort(fields, entry, replay.has_value());
  }
}

void ReadLora(Fields& fields, Registration& registration) {
  const auto name = fields.Text("lora_name");
  const auto id = fields.Integer("lora_id", "a LoRA id", -1, kMaxNumber);
  registration.lora_name = name.value_or("");
  if (!id || *id < 0) return;
  if (registration.lora_name.empty()) {
    registration.lora_name = fmt::format("{}", *id);
  } else {
    fields.Note("lora_id", "not used where lora_name names the adapter");
  }
}

void ReadCopies(Fields& fields, Registration& registration) {
  const auto copies = fields.Text("copies");
  if (!copies || *copies == "count") return;
  if (*copies == "set") {
    registration.copies = index::CopyMode::kSet;
  } else {
    fields.Problem("copies", fmt::format("'{}' is not a way to count copies", *copies),
                   "count or set");
  }
}

void ReadCacheGroup(Fields& fields) {
  const Json* group = fields.Get("cache_group");
  if (group == nullptr || *group == 0) return;
  fields.Problem(WrongValue(*group, JsonMemberPath(fields.path(), "cache_group"),
                            "a cache group that can be followed", "0 or null"));
}

void ReadHashProfile(Fields& fields) {
  const Json* profile = fields.Get("hash_profile");
  if (profile == nullptr) return;
  if (profile->is_object()) {
    fields.Note("hash_profile", "accepted, but not used yet");
  } else {
    fields.Problem(WrongValue(*profile, JsonMemberPath(fields.path(), "hash_profile"),
                              "a hash profile", "an object"));
  }
}

// The member of an entry that a field of a Registration was read from.
std::string_view SourceField(const Json& entry, std::string_view field) {
  if (field == "endpoint" && !entry.contains("endpoint")) return "ip";
  if (field == "modelname" && !entry.contains("modelname") && entry.contains("model")) {
    return "model";
  }
  return field;
}

// `name` is the instance's unless the entry gives another.
void ReadInstance(Fields& fields, Registration& registration, const std::string& name) {
  registration.instance_id = fields.Text("instance_id").value_or("");
  if (registration.instance_id.empty()) registration.instance_id = name;
  if (registration.instance_id != name && fields.Get("hash_profile") == nullptr) {
    fields.Note("instance_id",
                "answers use it; the Mooncake Conductor in Go used the name of the entry");
  }
}

std::optional<Entry> ReadEntry(const std::string& name, const Json& json, const std::string& path,
                               Findings& findings) {
  if (!json.is_object()) {
    findings.Problem(WrongValue(json, path, "a publisher", "an object"));
    return std::nullopt;
  }
  Fields fields(json, path, findings);
  Entry entry{.json = &json, .path = path, .registration = {}, .implied_replay = {}};
  Registration& registration = entry.registration;
  if (const auto type = fields.Text("type")) {
    if (const auto parsed = ParsePublisherType(*type)) {
      registration.type = *parsed;
    } else {
      fields.Problem("type", parsed.error().what, parsed.error().expected);
    }
  }
  ReadAddresses(fields, entry);
  ReadLora(fields, registration);
  ReadCopies(fields, registration);
  ReadCacheGroup(fields);
  ReadHashProfile(fields);
  registration.model = fields.Text("modelname", "model").value_or("");
  registration.additional_salt = fields.Text("additionalsalt", "additional_salt").value_or("");
  registration.topic = fields.Text("topic").value_or("");
  // Some generations write what is left open as an empty text.
  if (auto tenant = fields.Text("tenant_id").value_or(""); !tenant.empty()) {
    registration.tenant = std::move(tenant);
  }
  ReadInstance(fields, registration, name);
  registration.block_size = static_cast<uint32_t>(
      fields.Integer("block_size", "a block size", 0, kMaxNumber).value_or(0));
  registration.dp_rank =
      static_cast<uint32_t>(fields.Integer("dp_rank", "a rank", 0, kMaxNumber).value_or(0));
  fields.NoteUnknown();
  if (!fields.good()) return std::nullopt;
  if (auto valid = Validate(registration); !valid) {
    Error error = std::move(valid.error());
    error.where = JsonMemberPath(fields.path(), SourceField(json, error.where));
    findings.Problem(std::move(error));
    return std::nullopt;
  }
  return entry;
}

// True when `path` is a place inside `entry`.
bool IsInside(std::string_view path, std::string_view entry) {
  return path.size() > entry.size() && path.starts_with(entry) &&
         (path[entry.size()] == '.' || path[entry.size()] == '[');
}

// Sorted paths: whether one of them is inside `entry`.
bool AnyInside(const std::vector<std::string>& sorted, const std::string& entry) {
  for (const char separator : {'.', '['}) {
    const auto next = std::ranges::lower_bound(sorted, entry + separator);
    if (next != sorted.end() && IsInside(*next, entry)) return true;
  }
  return false;
}

// Takes the entry's key and endpoint, and notes a replay endpoint that cannot be right. False when
// an earlier entry has the key or the endpoint.
bool Reserve(const Entry& entry, Reservations& reservations, Findings& findings) {
  const Registration& registration = entry.registration;
  if (const auto conflict = reservations.FindConflict(registration)) {
    std::string what =
        conflict->what == Reservations::What::kKey
            ? fmt::format("has the instance_id, tenant_id and dp_rank ('{}') of {}",
                          registration.Key(), conflict->holder)
            : fmt::format("has the endpoint '{}' of {}", registration.endpoint, conflict->holder);
    findings.Problem(Error{std::move(what), entry.path, "one entry for each publisher"});
    return false;
  }
  for (const auto& [field, what] : reservations.Clashes(registration)) {
    findings.Note(entry.path, SourceField(*entry.json, field), what + ": one of the two is wrong");
  }
  reservations.Add(registration, entry.path);
  return true;
}

void ReadEntries(const Json& entries, std::vector<std::string> repeated, Config& config,
                 Findings& findings) {
  std::ranges::sort(repeated);
  Reservations reservations;
  std::vector<Entry> good;
  for (const auto& [name, json] : entries.items()) {
    const std::string path = JsonMemberPath("kvevent_instance", name);
    auto entry = ReadEntry(name, json, path, findings);
    // Which of two values was meant nobody can know; the repeated key has been told.
    if (!entry || AnyInside(repeated, path)) continue;
    if (Reserve(*entry, reservations, findings)) good.push_back(*std::move(entry));
  }
  for (Entry& entry : good) {
    // Only now: the next port may be the event port of an entry further on.
    if (!entry.implied_replay.empty()) {
      if (const auto role = reservations.RoleOf(entry.implied_replay)) {
        findings.Note(entry.path, "port",
                      fmt::format("replay is not asked for at the next port: '{}' is {}",
                                  entry.implied_replay, *role));
      } else {
        entry.registration.replay_endpoint = std::move(entry.implied_replay);
      }
    }
    config.publishers.push_back(std::move(entry.registration));
  }
}

Error TopLevelError(const Json& value, std::string_view name, std::string_view key,
                    std::string_view what, std::string expected) {
  return WrongValue(value, key, what, std::move(expected)).Within(name);
}

Status ReadTopLevel(JsonDocument document, std::string_view name, Config& config,
                    Findings& findings) {
  for (const auto& [key, value] : document.root.items()) {
    const bool is_known = key == "http_server_port" || key == "host" || key == "kvevent_instance";
    if (value.is_null() && is_known) continue;
    if (key == "http_server_port") {
      const auto port = ReadInteger(value, key, "a port", 0, 65535);
      if (!port) return tl::unexpected(Error(port.error()).Within(name));
      config.http_server_port = static_cast<uint16_t>(*port);
    } else if (key == "host") {
      if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
        return tl::unexpected(
            TopLevelError(value, name, key, "a host", "a name or an address to listen on"));
      }
      config.host = value.get<std::string>();
    } else if (key == "kvevent_instance") {
      if (!value.is_object()) {
        return tl::unexpected(TopLevelError(value, name, key, "a set of publishers",
                                            "an object with an entry for each"));
      }
      ReadEntries(value, document.repeated, config, findings);
    } else {
      findings.Note("", key, "unknown field, not used");
    }
  }
  return {};
}

}  // namespace

Result<Config> ParseConfig(std::string_view json, std::string_view name) {
  auto document = ParseJsonDocument(json);
  if (!document) return tl::unexpected(std::move(document.error()).Within(name));
  if (!document->root.is_object()) {
    return tl::unexpected(
        WrongValue(document->root, "", "a configuration", "a JSON object").Within(name));
  }
  Findings findings(name);
  for (const std::string& path : document->repeated) {
    findings.Problem(Error{"the key appears more than once", path, "each key once in its object"});
  }
  Config config;
  if (auto read = ReadTopLevel(*std::move(document), name, config, findings); !read) {
    return tl::unexpected(std::move(read.error()));
  }
  findings.MoveInto(config);
  return config;
}

Result<Config> LoadConfig(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return Fail("is a directory", path, "a JSON file");
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file && !file.eof()) {
    return Fail(fmt::format("cannot be read: {}", std::generic_category().message(errno)), path,
                "a JSON file");
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) {
    return Fail("is too large", path, fmt::format("at most {} bytes", kMaxFileBytes));
  }
  return ParseConfig(text, path);
}

std::string DefaultConfigPath() {
  const char* home = std::getenv("HOME");  // read before any thread
  const std::filesystem::path directory = home == nullptr ? "." : home;
  return (directory / ".mooncake" / "conductor_config.json").string();
}

}  // namespace conductor::serve
