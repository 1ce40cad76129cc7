#include "daemon/serve/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <system_error>
#include <utility>

#include "daemon/serve/json_document.h"
#include "daemon/serve/registration_json.h"
#include "daemon/serve/reservations.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

// A thousand publishers take about 400 kB.
constexpr size_t kMaxFileBytes = 4 << 20;
// A file can be wrong in more places than anybody reads.
constexpr size_t kMaxFindings = 200;

std::string PathOf(std::string_view entry, const FieldName& field) {
  if (field.object.empty()) return JsonMemberPath(entry, field.name);
  return JsonMemberPath(JsonMemberPath(entry, field.object), field.name);
}

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

  // The entry at `path` (empty: the file itself) has `field`, and `text` says what that means.
  void Note(std::string_view path, const FieldName& field, std::string_view text) {
    const auto known = notes_.find(std::make_pair(field.Dotted(), std::string(text)));
    if (known != notes_.end()) {
      ++known->second.count;
    } else if (notes_.size() < kMaxFindings) {
      notes_.emplace(std::make_pair(field.Dotted(), text), NoteLine{PathOf(path, field), 1});
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

// An entry that can be used.
struct Entry {
  const Json* json = nullptr;
  std::string path;
  std::vector<Registration> ranks;  // one, without dp_size
  std::string implied_replay;       // see RegistrationFields; of the one rank
};

// Each wrong field is a problem of its own, so that one start shows all of them.
std::optional<Entry> ReadEntry(const std::string& name, const Json& json, const std::string& path,
                               Findings& findings) {
  if (!json.is_object()) {
    findings.Problem(WrongValue(json, path, "a publisher", "an object"));
    return std::nullopt;
  }
  RegistrationFields fields = ReadRegistration(json, name);
  for (FieldProblem& problem : fields.problems) {
    findings.Problem(
        Error{std::move(problem.what), PathOf(path, problem.field), std::move(problem.expected)});
  }
  for (const FieldNote& note : fields.notes) findings.Note(path, note.field, note.text);
  for (const FieldName& field : fields.unknown) {
    findings.Note(path, field, "unknown field, not used");
  }
  if (!fields.problems.empty()) return std::nullopt;
  auto ranks = ExpandRanks(fields.registration, fields.dp_size);
  if (!ranks) {
    Error error = std::move(ranks.error());
    error.where = JsonMemberPath(path, SourceField(json, error.where));
    findings.Problem(std::move(error));
    return std::nullopt;
  }
  return Entry{.json = &json,
               .path = path,
               .ranks = *std::move(ranks),
               .implied_replay = std::move(fields.implied_replay)};
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

// Takes the keys and endpoints of the entry's ranks, and notes replay endpoints that cannot be
// right. False, with nothing taken, when an earlier entry has a key or an endpoint of any rank.
bool Reserve(const Entry& entry, Reservations& reservations, Findings& findings) {
  for (const Registration& rank : entry.ranks) {
    const auto conflict = reservations.FindConflict(rank);
    if (!conflict) continue;
    std::string what =
        conflict->what == Reservations::What::kKey
            ? fmt::format("has the instance_id, tenant_id and dp_rank ('{}') of {}", rank.Key(),
                          conflict->holder)
            : fmt::format("has the endpoint '{}' of {}", rank.endpoint, conflict->holder);
    findings.Problem(Error{std::move(what), entry.path, "one entry for each publisher"});
    return false;
  }
  for (const Registration& rank : entry.ranks) {
    for (const auto& [field, what] : reservations.Clashes(rank)) {
      findings.Note(entry.path, {"", SourceField(*entry.json, std::string(field))},
                    what + ": one of the two is wrong");
    }
    reservations.Add(rank, entry.path);
  }
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
        findings.Note(entry.path, {"", "port"},
                      fmt::format("replay is not asked for at the next port: '{}' is {}",
                                  entry.implied_replay, *role));
      } else {
        entry.ranks.front().replay_endpoint = std::move(entry.implied_replay);
      }
    }
    std::ranges::move(entry.ranks, std::back_inserter(config.publishers));
  }
}

Error TopLevelError(const Json& value, std::string_view name, std::string_view key,
                    std::string_view what, std::string expected) {
  return WrongValue(value, key, what, std::move(expected)).Within(name);
}

// A number may stand as one; times and sizes with a unit are texts, as on the command line.
Status ReadSetting(const Setting& setting, const Json& value, std::string_view name,
                   Config& config) {
  const std::string key = setting.Key();
  std::string text;
  if (value.is_string()) {
    text = value.get<std::string>();
  } else if ((value.is_number_unsigned() && setting.TakesNumber()) ||
             (value.is_number() && setting.kind == Setting::Kind::kReal)) {
    text = value.dump();
  } else {
    const std::string shown = setting.Show(Limits{});
    return tl::unexpected(
        TopLevelError(value, name, key, setting.TakesNumber() ? "a number" : "a text",
                      shown.empty() ? std::string("the path of a file")
                                    : fmt::format("\"{}\", as it is by default", shown)));
  }
  Limits scratch;
  if (auto set = setting.Set(text, scratch); !set) {
    return tl::unexpected(Error(set.error()).Within(key).Within(name));
  }
  config.settings.emplace_back(&setting, std::move(text));
  return {};
}

Status ReadTopLevel(JsonDocument document, std::string_view name, Config& config,
                    Findings& findings) {
  for (const auto& [key, value] : document.root.items()) {
    const Setting* setting = FindSetting(key);
    const bool is_known = setting != nullptr || key == "http_server_port" || key == "host" ||
                          key == "query_endpoint" || key == "kvevent_instance";
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
    } else if (key == "query_endpoint") {
      const std::string address = value.is_string() ? value.get<std::string>() : std::string();
      if (auto valid = CheckQueryAddress(address); !valid) {
        return tl::unexpected(TopLevelError(value, name, key, "an address to answer queries at",
                                            valid.error().expected));
      }
      config.query_endpoint = address;
    } else if (key == "kvevent_instance") {
      if (!value.is_object()) {
        return tl::unexpected(TopLevelError(value, name, key, "a set of publishers",
                                            "an object with an entry for each"));
      }
      ReadEntries(value, document.repeated, config, findings);
    } else if (setting != nullptr) {
      if (auto read = ReadSetting(*setting, value, name, config); !read) return read;
    } else {
      findings.Note("", {"", key}, "unknown field, not used");
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
