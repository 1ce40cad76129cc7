#include "lib/base/endpoint.h"

#include <fmt/format.h>

#include <charconv>

namespace conductor {
namespace {

constexpr std::string_view kExpected = "tcp://HOST:PORT or ipc://PATH";

Result<uint16_t> ParsePort(std::string_view text) {
  uint32_t port = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc() || rest != end || port < 1 || port > 65535) {
    return Fail(fmt::format("'{}' is not a port", text), {}, "1 to 65535");
  }
  return static_cast<uint16_t>(port);
}

}  // namespace

std::string Endpoint::ToString() const {
  if (!is_tcp()) return fmt::format("{}://{}", scheme, host);
  const bool ipv6 = host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("tcp://[{}]:{}", host, port) : fmt::format("tcp://{}:{}", host, port);
}

Result<Endpoint> Endpoint::PortPlus(uint32_t steps) const {
  if (!is_tcp()) return Fail("a port can be added to tcp endpoints only", ToString());
  if (steps > 65535u - port) {
    return Fail(fmt::format("port {} + {} is above 65535", port, steps), ToString());
  }
  Endpoint moved = *this;
  moved.port = static_cast<uint16_t>(port + steps);
  return moved;
}

Result<Endpoint> Endpoint::Parse(std::string_view text) {
  const std::string where = fmt::format("endpoint '{}'", text);
  const auto fail = [&](std::string what) {
    return Fail(std::move(what), where, std::string(kExpected));
  };
  const size_t colon = text.find("://");
  if (colon == std::string_view::npos) return fail("has no scheme");
  Endpoint endpoint;
  endpoint.scheme = text.substr(0, colon);
  std::string_view rest = text.substr(colon + 3);
  if (endpoint.scheme == "ipc" || endpoint.scheme == "inproc") {
    if (rest.empty()) return fail("has no path");
    endpoint.host = rest;
    return endpoint;
  }
  if (endpoint.scheme != "tcp") return fail("has an unknown scheme");
  const size_t last_colon = rest.rfind(':');
  if (last_colon == std::string_view::npos) return fail("has no port");
  auto port = ParsePort(rest.substr(last_colon + 1));
  if (!port) return tl::unexpected(std::move(port.error()).Within(where));
  endpoint.port = *port;
  std::string_view host = rest.substr(0, last_colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return fail("has an IPv6 address without brackets");
  }
  if (host.empty()) return fail("has no host");
  endpoint.host = host;
  return endpoint;
}

}  // namespace conductor
