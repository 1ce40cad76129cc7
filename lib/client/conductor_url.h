#ifndef CONDUCTOR_LIB_CLIENT_CONDUCTOR_URL_H_
#define CONDUCTOR_LIB_CLIENT_CONDUCTOR_URL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace conductor::client {

// Where a conductor is asked: "http://HOST:PORT", "https://HOST:PORT" (without a port 13333), or
// over ZeroMQ "tcp://HOST:PORT" or "ipc://PATH".
struct ConductorUrl {
  enum class Scheme : uint8_t { kHttp, kHttps, kZmq };

  Scheme scheme = Scheme::kHttp;
  std::string host;   // HTTP: a name or address, IPv6 without brackets
  uint16_t port = 0;  // HTTP
  std::string text;   // the whole, without a slash at its end: what messages call the conductor

  [[nodiscard]] bool is_http() const { return scheme != Scheme::kZmq; }

  // The error's `where` has the text.
  [[nodiscard]] static Result<ConductorUrl> Parse(std::string_view text);
};

}  // namespace conductor::client

#endif  // CONDUCTOR_LIB_CLIENT_CONDUCTOR_URL_H_
