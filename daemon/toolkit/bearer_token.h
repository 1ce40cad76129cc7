#ifndef CONDUCTOR_DAEMON_TOOLKIT_BEARER_TOKEN_H_
#define CONDUCTOR_DAEMON_TOOLKIT_BEARER_TOKEN_H_

#include <string>

#include "lib/base/result.h"

namespace conductor::toolkit {

// The token that a daemon is shown: the one word in the file, or, where no file is named, what
// CONDUCTOR_TOKEN says; empty: none. Errors name the file and never what it holds.
[[nodiscard]] Result<std::string> ReadBearerToken(const std::string& path);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_BEARER_TOKEN_H_
