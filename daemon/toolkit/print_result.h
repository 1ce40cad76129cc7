#ifndef CONDUCTOR_DAEMON_TOOLKIT_PRINT_RESULT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_PRINT_RESULT_H_

#include <cstdio>
#include <string_view>

#include "lib/base/result.h"

namespace conductor::toolkit {

// Writes what a command came to, all of it: for commands that print once. A reader that is gone has
// seen what it wanted, which is no error; anything else (a disk that is full) is one.
//
// SIGPIPE must be ignored.
[[nodiscard]] Status PrintResult(std::string_view text, std::FILE* to = stdout);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_PRINT_RESULT_H_
