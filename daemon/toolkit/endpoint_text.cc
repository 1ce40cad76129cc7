#include "daemon/toolkit/endpoint_text.h"

#include <fmt/format.h>
#include <net/if.h>
#include <sys/stat.h>

#include <algorithm>

#include "lib/base/endpoint.h"
#include "lib/stream/peer_socket.h"

namespace conductor::toolkit {
namespace {

constexpr std::string_view kAnywhere = "tcp://*:";

bool IsNumber(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

Status Check(const std::string& text, bool bound) {
  if (!IsAddress(text)) {
    std::string expected = bound ? "tcp://*:PORT or ipc://PATH" : "tcp://HOST:PORT or ipc://PATH";
    if (IsNumber(text)) expected = fmt::format("tcp://{}:{}", bound ? "*" : "HOST", text);
    if (LacksScheme(text)) expected = "tcp://" + text;
    return Fail("has no scheme", text, std::move(expected));
  }
  std::string address = text;
  if (text.starts_with(kAnywhere)) address.replace(kAnywhere.find('*'), 1, "0.0.0.0");
  if (bound && address.ends_with(":*")) address.replace(address.size() - 1, 1, "1");
  const auto endpoint = Endpoint::Parse(address);
  if (!endpoint) return tl::unexpected(endpoint.error());
  if (endpoint->scheme == "inproc") {
    return Fail("inproc endpoints are within one process", text, "tcp://HOST:PORT or ipc://PATH");
  }
  if (bound && endpoint->is_tcp() && !stream::IsNumeric(endpoint->host) &&
      endpoint->host.find(':') == std::string::npos &&
      ::if_nametoindex(endpoint->host.c_str()) == 0) {
    return Fail("a name cannot be listened at", text, "tcp://*:PORT or tcp://ADDRESS:PORT");
  }
  return {};
}

}  // namespace

bool IsAddress(std::string_view word) { return word.find("://") != std::string_view::npos; }

bool LacksScheme(std::string_view word) {
  const size_t colon = word.rfind(':');
  return colon != std::string_view::npos && colon > 0 && IsNumber(word.substr(colon + 1)) &&
         word.find('/') == std::string_view::npos;
}

Status CheckDialled(const std::string& text) { return Check(text, /*bound=*/false); }
Status CheckBound(const std::string& text) { return Check(text, /*bound=*/true); }

Status CheckNoAddress(const std::string& word) {
  struct stat found {};
  if (!LacksScheme(word) || ::stat(word.c_str(), &found) == 0) return {};
  return Fail("there is no such file, and an endpoint has a scheme", word, "tcp://" + word);
}

std::string InstanceAt(std::string_view endpoint) {
  const size_t scheme = endpoint.find("://");
  std::string name(scheme == std::string_view::npos ? endpoint : endpoint.substr(scheme + 3));
  std::ranges::replace(name, '|', '_');
  return name.empty() ? "recorded" : name;
}

}  // namespace conductor::toolkit
