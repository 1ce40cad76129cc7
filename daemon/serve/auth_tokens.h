#ifndef CONDUCTOR_DAEMON_SERVE_AUTH_TOKENS_H_
#define CONDUCTOR_DAEMON_SERVE_AUTH_TOKENS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/serve/http_router.h"
#include "lib/base/result.h"

namespace conductor::serve {

// Who may ask for what: the bearer tokens (RFC 6750) of a file with a line for each,
//
//   # routers
//   read 5f0c1a...
//   admin 9b27e4...
//
// where blank lines and what follows a '#' mean nothing. `read` may ask for what changes nothing,
// `admin` for everything; a token without either word is an admin's. Tokens have letters, digits
// and -._~+/ and may end in '='. `openssl rand -hex 32` makes one.
//
// Only digests are kept. Immutable, so any thread may ask.
class AuthTokens {
 public:
  // Errors name the line and what was expected, never a token: a broken line, a token given twice,
  // no token at all.
  [[nodiscard]] static Result<AuthTokens> Parse(std::string_view text);
  // Parse() of a file's content; errors name it too.
  [[nodiscard]] static Result<AuthTokens> Load(const std::string& path);

  enum class Verdict : uint8_t {
    kAllowed,
    kMissing,    // no token, or another scheme
    kUnknown,    // a token that is not among these
    kForbidden,  // one that may not do this
  };
  // `authorization` is the header's value. Takes the same time whichever token is wrong, and
  // wherever it begins to differ.
  [[nodiscard]] Verdict Judge(std::string_view authorization, Access needed) const;

  [[nodiscard]] size_t size() const { return tokens_.size(); }
  // What is not wrong but unwise, a line for the log each: short tokens, a file that others read.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  using Digest = std::array<unsigned char, 32>;  // SHA-256
  struct Token {
    Digest digest;
    bool admin;
    size_t line;
  };

  [[nodiscard]] static Digest DigestOf(std::string_view token);
  [[nodiscard]] Status Add(std::string_view line, size_t number);

  std::vector<Token> tokens_;
  std::vector<std::string> warnings_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_AUTH_TOKENS_H_
