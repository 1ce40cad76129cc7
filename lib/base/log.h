#ifndef CONDUCTOR_LIB_BASE_LOG_H_
#define CONDUCTOR_LIB_BASE_LOG_H_

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "lib/base/result.h"

namespace conductor::log {

// One process-wide log, to stderr, a line a message: time, level, text. Usable from any thread.
// Lines stand for changes of state, never for single events or requests.
enum class Level { kDebug, kInfo, kWarn, kError };

// Messages below `level` are dropped. The default is kInfo.
void SetLevel(Level level);
[[nodiscard]] bool Enabled(Level level);

// Reads DEBUG, INFO, WARN (or WARNING) and ERROR in any case.
[[nodiscard]] Result<Level> ParseLevel(std::string_view text);

void Write(Level level, std::string_view message);

template <typename... Args>
void Debug(fmt::format_string<Args...> format, Args&&... args) {
  if (Enabled(Level::kDebug)) {
    Write(Level::kDebug, fmt::format(format, std::forward<Args>(args)...));
  }
}

template <typename... Args>
void Info(fmt::format_string<Args...> format, Args&&... args) {
  if (Enabled(Level::kInfo)) Write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void Warn(fmt::format_string<Args...> format, Args&&... args) {
  if (Enabled(Level::kWarn)) Write(Level::kWarn, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void Error(fmt::format_string<Args...> format, Args&&... args) {
  if (Enabled(Level::kError)) {
    Write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
  }
}

}  // namespace conductor::log

#endif  // CONDUCTOR_LIB_BASE_LOG_H_
