#include "daemon/proxy/engine.h"

#include <fmt/format.h>

#include <utility>

#include "lib/base/number.h"

namespace conductor::proxy {

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kPrefill:
      return "prefill";
    case Role::kDecode:
      return "decode";
    case Role::kUnified:
      return "unified";
  }
  return {};
}

std::string EngineSpec::Name() const {
  if (host.find(':') != std::string::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

Result<EngineSpec> EngineSpec::Parse(std::string_view text) {
  constexpr const char* kExpected = "HOST:PORT or http://HOST:PORT";
  std::string_view rest = text;
  if (rest.starts_with("http://")) rest.remove_prefix(7);
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos || colon == 0 ||
      rest.find_first_of("/@ ") != std::string_view::npos) {
    return Fail("is no engine's address", std::string(text), kExpected);
  }
  const auto port = ParseNumber(rest.substr(colon + 1), "a port", 1, 65535);
  if (!port) return Fail("its port cannot be used", std::string(text), port.error().expected);
  std::string_view host = rest.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return Fail("is an IPv6 address without brackets", std::string(text), kExpected);
  }
  EngineSpec spec;
  spec.host = host;
  spec.port = static_cast<uint16_t>(*port);
  return spec;
}

Result<uint16_t> EngineSpec::ParseBootstrapPort(std::string_view text) {
  if (text == "none") return 0;
  const auto port = ParseNumber(text, "a bootstrap port", 1, 65535);
  if (!port) {
    return Fail(fmt::format("'{}' is no bootstrap port", text), {}, "from 1 to 65535, or none");
  }
  return static_cast<uint16_t>(*port);
}

Engine::Engine(Role role, EngineSpec spec)
    : role_(role), spec_(std::move(spec)), name_(spec_.Name()) {
  error_code error;
  const auto address = net::ip::make_address(spec_.host, error);
  if (!error) addresses_ = {tcp::endpoint(address, spec_.port)};
}

Status Engine::Resolve() {
  error_code error;
  (void)net::ip::make_address(spec_.host, error);
  if (!error) return {};
  net::io_context io;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(spec_.host, std::to_string(spec_.port), error);
  if (error) return Fail(fmt::format("its name is not known: {}", error.message()), name_);
  std::vector<tcp::endpoint> addresses;
  for (const auto& entry : found) addresses.push_back(entry.endpoint());
  SetAddresses(std::move(addresses));
  return {};
}

void Engine::SetAddresses(std::vector<tcp::endpoint> addresses) {
  const std::lock_guard lock(mutex_);
  addresses_ = std::move(addresses);
}

std::vector<tcp::endpoint> Engine::addresses() const {
  const std::lock_guard lock(mutex_);
  return addresses_;
}

BootstrapIds Engine::bootstrap() const {
  const std::lock_guard lock(mutex_);
  return bootstrap_;
}

void Engine::SetBootstrap(BootstrapIds ids) {
  const std::lock_guard lock(mutex_);
  bootstrap_ = std::move(ids);
  has_been_ready_ = has_been_ready_ || !bootstrap_.empty();
}

bool Engine::has_been_ready() const {
  const std::lock_guard lock(mutex_);
  return has_been_ready_;
}

}  // namespace conductor::proxy
