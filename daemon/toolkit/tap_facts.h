#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_FACTS_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_FACTS_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/wire/dialect.h"

namespace conductor::toolkit {

// What is said of the publishers whose messages are recorded: `type`, where it is given, and
// `--fact NAME=VALUE`, as a JSON object of registration fields. A VALUE is a number or another JSON
// value where its field takes one, otherwise text: `instance_id=7` is the text "7".
//
// An error for what no registration would take: found when an index is built of the recording, it
// would be too late.
[[nodiscard]] Result<nlohmann::ordered_json> ReadFacts(const std::vector<std::string>& facts,
                                                       std::optional<wire::Dialect> type);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_FACTS_H_
