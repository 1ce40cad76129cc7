#include "lib/client/conductor_url.h"

#include <fmt/format.h>

#include "lib/base/endpoint.h"

namespace conductor::client {
namespace {

constexpr std::string_view kExpected =
    "http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT or ipc://PATH";
constexpr uint16_t kDefaultPort = 13333;

bool HasPort(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  return colon != std::string_view::npos && authority.find(']', colon) == std::string_view::npos;
}

}  // namespace

Result<ConductorUrl> ConductorUrl::Parse(std::string_view text) {
  const std::string where = fmt::format("conductor '{}'", text);
  ConductorUrl url;
  if (text.ends_with('/')) text.remove_suffix(1);
  url.text = text;
  std::string address(text);
  for (const auto& [prefix, scheme] :
       {std::pair("http://", Scheme::kHttp), std::pair("https://", Scheme::kHttps)}) {
    if (!text.starts_with(prefix)) continue;
    const std::string_view authority = text.substr(std::string_view(prefix).size());
    if (authority.find_first_of("/?#@") != std::string_view::npos) {
      return Fail("has more than a host and a port", where, std::string(kExpected));
    }
    // What follows is a ZeroMQ address's host and port too.
    address = fmt::format("tcp://{}", authority);
    if (!HasPort(authority)) address += fmt::format(":{}", kDefaultPort);
    url.scheme = scheme;
    auto parsed = Endpoint::Parse(address);
    if (!parsed) return Fail(std::move(parsed.error().what), where, std::string(kExpected));
    url.host = std::move(parsed->host);
    url.port = parsed->port;
    return url;
  }
  url.scheme = Scheme::kZmq;
  const auto parsed = Endpoint::Parse(address);
  if (!parsed) return Fail(parsed.error().what, where, std::string(kExpected));
  if (parsed->scheme == "inproc") {
    return Fail("has an unknown scheme", where, std::string(kExpected));
  }
  return url;
}

}  // namespace conductor::client
