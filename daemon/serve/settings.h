#ifndef CONDUCTOR_DAEMON_SERVE_SETTINGS_H_
#define CONDUCTOR_DAEMON_SERVE_SETTINGS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "daemon/serve/http_api.h"
#include "daemon/serve/query_endpoint.h"
#include "daemon/serve/registry.h"
#include "daemon/serve/snapshots.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace conductor::serve {

// What the limits and times of the daemon are; the structs have the defaults.
struct Limits {
  Registry::Options registry;
  HttpApi::Options http;
  QueryEndpoint::Options query;
  Snapshots::Options snapshots;
};

// One of them as people set it: by a flag, or by a key of the configuration file. This table is the
// only place that lists them; the help, the manual pages and both readers follow it.
struct Setting {
  enum class Kind : uint8_t {
    kNumber,  // an integer
    kSize,    // bytes: 65536, 64m
    kTime,    // above zero: 500ms, 5s
    kState,   // a MinState
    kCompat,  // a Generation of the Mooncake Conductor
    kReal,    // from 0 to 1000
    kFile,    // the path of a file; none by default
  };
  using Slot = std::variant<Duration*, uint32_t*, uint64_t*, int64_t*, MinState*, Generation*,
                            double*, std::string*>;

  std::string_view name;  // "probe-interval": the flag without its dashes
  Kind kind;
  std::string_view help;  // without the default
  Slot (*slot)(Limits&);
  bool common = false;  // stands in the short help
  uint64_t min = 0;     // numbers
  uint64_t max = UINT32_MAX;
  bool zero = false;  // sizes and times: 0 says something too

  // The file's key: "probe_interval".
  [[nodiscard]] std::string Key() const;
  // Whether the file may have it as a JSON number too.
  [[nodiscard]] bool TakesNumber() const {
    return kind == Kind::kNumber || kind == Kind::kSize || kind == Kind::kReal;
  }
  // What stands for the value in the help: "N", "SIZE", "TIME", "STATE", "GENERATION", "X", "FILE".
  [[nodiscard]] std::string_view Shape() const;
  // The value in `limits`, as Set() reads it; empty for a file that nobody named.
  [[nodiscard]] std::string Show(Limits limits) const;
  // Errors say what was given and what was expected; their `where` is empty.
  [[nodiscard]] Status Set(std::string_view text, Limits& limits) const;
};

// In the order of the help.
[[nodiscard]] std::span<const Setting> AllSettings();
// nullptr when no setting has this key.
[[nodiscard]] const Setting* FindSetting(std::string_view key);

// Settings that somebody gave, each with a text that Set() takes.
using GivenSettings = std::vector<std::pair<const Setting*, std::string>>;

// The defaults, then what the file says, then what the flags say. An error when two of them do not
// fit one another; its `where` is a flag.
[[nodiscard]] Result<Limits> LimitsFrom(const GivenSettings& file, const GivenSettings& flags);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_SETTINGS_H_
