#include "daemon/toolkit/print_result.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace conductor::toolkit {

Status PrintResult(std::string_view text, std::FILE* to) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), to) == text.size() && std::fflush(to) == 0)
    return {};
  if (errno == EPIPE) return {};
  return Fail(fmt::format("cannot be written: {}", std::strerror(errno)), "standard output");
}

}  // namespace conductor::toolkit
