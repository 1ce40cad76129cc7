#include "daemon/toolkit/bearer_token.h"

#include <cstdlib>
#include <utility>

#include "daemon/toolkit/token_file.h"

namespace conductor::toolkit {

Result<std::string> ReadBearerToken(const std::string& path) {
  if (path.empty()) {
    const char* token = std::getenv("CONDUCTOR_TOKEN");  // no thread changes the environment
    return token == nullptr ? std::string() : std::string(token);
  }
  auto text = ReadWholeFile(path);
  if (!text) return tl::unexpected(std::move(text.error()));
  constexpr const char* kSpace = " \t\r\n";
  const size_t begin = text->find_first_not_of(kSpace);
  if (begin == std::string::npos) return Fail("is empty", path, "a token and nothing else");
  std::string token = text->substr(begin, text->find_last_not_of(kSpace) + 1 - begin);
  if (token.find_first_of(kSpace) != std::string::npos) {
    return Fail("holds more than one word", path, "a token and nothing else");
  }
  return token;
}

}  // namespace conductor::toolkit
