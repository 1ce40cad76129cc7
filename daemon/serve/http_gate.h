#ifndef CONDUCTOR_DAEMON_SERVE_HTTP_GATE_H_
#define CONDUCTOR_DAEMON_SERVE_HTTP_GATE_H_

#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include "daemon/serve/auth_tokens.h"
#include "daemon/serve/http_framing.h"

namespace conductor::serve {

// Whether a request may go on, judged by its head alone. Open until tokens are required.
// Thread-safe.
class HttpGate {
 public:
  // From the next request on; others than before take their place.
  void Require(AuthTokens tokens) {
    auto required = std::make_shared<const AuthTokens>(std::move(tokens));
    const std::lock_guard lock(mutex_);
    tokens_.swap(required);
  }

  // Why it may not: 401 unauthorized, 403 forbidden.
  [[nodiscard]] std::optional<HttpRefusal> Refusal(std::string_view authorization,
                                                   Access needed) const {
    const auto tokens = Tokens();
    if (!tokens) return std::nullopt;
    switch (tokens->Judge(authorization, needed)) {
      case AuthTokens::Verdict::kAllowed:
        return std::nullopt;
      case AuthTokens::Verdict::kMissing:
        return HttpRefusal{401, "unauthorized", "this needs 'Authorization: Bearer TOKEN'",
                           "WWW-Authenticate: Bearer realm=\"conductor\""};
      case AuthTokens::Verdict::kUnknown:
        return HttpRefusal{401, "unauthorized", "the bearer token is none that is known here",
                           "WWW-Authenticate: Bearer realm=\"conductor\", error=\"invalid_token\""};
      case AuthTokens::Verdict::kForbidden:
        return HttpRefusal{403, "forbidden", "this needs an admin's token",
                           "WWW-Authenticate: Bearer realm=\"conductor\", "
                           "error=\"insufficient_scope\""};
    }
    return std::nullopt;
  }

 private:
  [[nodiscard]] std::shared_ptr<const AuthTokens> Tokens() const {
    const std::lock_guard lock(mutex_);
    return tokens_;
  }

  mutable std::mutex mutex_;
  std::shared_ptr<const AuthTokens> tokens_;  // guarded by mutex_
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HTTP_GATE_H_
