#ifndef CONDUCTOR_DAEMON_SERVE_REGISTRATION_JSON_H_
#define CONDUCTOR_DAEMON_SERVE_REGISTRATION_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "daemon/serve/registration.h"

namespace conductor::serve {

// A member of a registration's object, or of an object in it: {"", "endpoint"},
// {"hash_profile", "algorithm"}.
struct FieldName {
  std::string object;  // empty: the registration's own
  std::string name;

  // "hash_profile.algorithm".
  [[nodiscard]] std::string Dotted() const;

  friend bool operator==(const FieldName&, const FieldName&) = default;
};

struct FieldProblem {
  FieldName field;
  std::string reason;    // for programs: a RequestError::reason
  std::string what;      // "-16 is not a block size"
  std::string expected;  // "an integer from 0 to 2147483647"
};

struct FieldNote {
  FieldName field;
  std::string text;
};

// What a JSON object says of a publisher.
struct RegistrationFields {
  Registration registration;
  uint32_t dp_size = 1;  // see ExpandRanks()
  // The replay endpoint that `ip` and `port` imply; the registration has none then. Empty when the
  // object says itself where replay is, or that there is none, and where none can be implied.
  std::string implied_replay;
  std::vector<FieldProblem> problems;  // in the order of their reading; empty: all can be used
  std::vector<FieldNote> notes;        // understood, and worth a line
  std::vector<FieldName> unknown;      // nobody knows these; not used
};

// How many ranks one registration may stand for.
inline constexpr uint32_t kMaxDpSize = 4096;

// Reads the registration fields of every generation, those of an entry in a configuration file and
// of a request alike; conductor.json(5) describes them. Absent and null are the same.
// `instance_id` stands for the field where that is absent or empty; without one the field is
// required. The registration is not yet checked by Validate().
//   object.is_object()
[[nodiscard]] RegistrationFields ReadRegistration(const nlohmann::ordered_json& object,
                                                  const std::optional<std::string>& instance_id);

// What ReadRegistration() makes the same registration of.
[[nodiscard]] nlohmann::ordered_json RegistrationJson(const Registration& registration);

// The member that a field of Validate()'s errors was read from: "ip" for "endpoint" where the
// object has no "endpoint".
[[nodiscard]] std::string SourceField(const nlohmann::ordered_json& object,
                                      const std::string& field);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_REGISTRATION_JSON_H_
