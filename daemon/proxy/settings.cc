#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <type_traits>

#include "daemon/proxy/options.h"
#include "lib/base/number.h"

namespace conductor::proxy {
namespace {

// A time, which is above zero.
template <auto kSlot>
Status SetTime(std::string_view text, ProxyOptions& options) {
  const auto time = ParseDuration(text);
  if (!time) return tl::unexpected(time.error());
  if (*time <= Duration(0)) return Fail("is no time above zero", {}, "a time as 500ms, 5s, 15m");
  kSlot(options) = *time;
  return {};
}
template <auto kSlot>
std::string ShowTime(const ProxyOptions& options) {
  ProxyOptions copy = options;
  return FormatDuration(kSlot(copy));
}

template <auto kSlot, uint64_t kMin, uint64_t kMax>
Status SetNumber(std::string_view text, ProxyOptions& options) {
  const auto number = ParseNumber(text, "a number", kMin, kMax);
  if (!number) return tl::unexpected(number.error());
  auto& slot = kSlot(options);
  slot = static_cast<std::remove_reference_t<decltype(slot)>>(*number);
  return {};
}
template <auto kSlot>
std::string ShowNumber(const ProxyOptions& options) {
  ProxyOptions copy = options;
  return std::to_string(kSlot(copy));
}

template <auto kSlot>
Status SetSize(std::string_view text, ProxyOptions& options) {
  const auto size = ParseSize(text);
  if (!size) return tl::unexpected(size.error());
  kSlot(options) = *size;
  return {};
}
template <auto kSlot>
std::string ShowSize(const ProxyOptions& options) {
  ProxyOptions copy = options;
  return FormatSize(kSlot(copy));
}

template <auto kSlot>
constexpr ProxySetting Time(std::string_view name, std::string_view help, bool common = false) {
  return {name, "TIME", help, common, SetTime<kSlot>, ShowTime<kSlot>};
}
template <auto kSlot, uint64_t kMin, uint64_t kMax>
constexpr ProxySetting Number(std::string_view name, std::string_view help, bool common = false) {
  return {name, "N", help, common, SetNumber<kSlot, kMin, kMax>, ShowNumber<kSlot>};
}
template <auto kSlot>
constexpr ProxySetting Size(std::string_view name, std::string_view help) {
  return {name, "SIZE", help, false, SetSize<kSlot>, ShowSize<kSlot>};
}

Status SetConnector(std::string_view text, ProxyOptions& options) {
  return ParseConnector(text).map(
      [&](Connector connector) { options.choreography.connector = connector; });
}
Status SetPolicy(std::string_view text, ProxyOptions& options) {
  return ParsePolicy(text).map([&](Policy policy) { options.policy = policy; });
}

using O = ProxyOptions;

}  // namespace

std::string ProxySetting::Key() const {
  std::string key(name);
  std::ranges::replace(key, '-', '_');
  return key;
}

const std::vector<ProxySetting>& ProxySettings() {
  static const std::vector<ProxySetting> kAll = {
      {"connector", "NAME", "how KV goes from prefill to decode", true, SetConnector,
       [](const O& o) { return std::string(ConnectorName(o.choreography.connector)); }},
      {"policy", "NAME", "how engines are chosen", true, SetPolicy,
       [](const O& o) { return o.policy ? std::string(PolicyName(*o.policy)) : std::string(); }},
      Number < [](O & o) -> auto& {return o.skip_prefill_below;
}
, 0, INT32_MAX > ("skip-prefill-below", "decode alone where it lacks no more tokens", true),
    Number < [](O& o) -> auto& {
  return o.threads;
}
, 1, 256 > ("threads", "threads that relay"), Number < [](O& o) -> auto& { return o.max_requests; }
, 1, INT32_MAX > ("max-requests", "requests in hand; more get 429"), Number < [](O& o) -> auto& {
  return o.retries;
}
, 0, 100 > ("retries", "attempts after the first, at other engines"), Number < [](O& o) -> auto& {
  return o.bootstrap_port;
}
, 1, 65535 > ("bootstrap-port", "of all prefillers, for mooncake and sglang"), Time < [
](O& o) -> auto& {
  return o.upstreams.connect;
}
> ("connect-timeout", "to connect to an engine"), Time < [](O& o) -> auto& {
  return o.upstreams.first_byte;
}
> ("first-byte-timeout", "until an engine begins to answer"), Time < [](O& o) -> auto& {
  return o.upstreams.idle;
}
> ("idle-timeout", "between two pieces of an engine's answer"), Time < [](O& o) -> auto& {
  return o.clients.request;
}
> ("request-timeout", "until a request has come whole"), Time < [](O& o) -> auto& {
  return o.clients.keep_alive;
}
> ("keep-alive-timeout", "a client without a request"), Time < [](O& o) -> auto& {
  return o.clients.write;
}
> ("write-timeout", "a client that takes nothing of its answer"), Time < [](O& o) -> auto& {
  return o.drain_timeout;
}
> ("drain-timeout", "for requests that have begun at SIGTERM"), Time < [](O& o) -> auto& {
  return o.tokenize_timeout;
}
> ("tokenize-timeout", "for the tokens of a prompt"), Time < [](O& o) -> auto& {
  return o.query_timeout;
}
> ("query-timeout", "for the conductor's answer"), Time < [](O& o) -> auto& {
  return o.registration_timeout;
}
> ("registration-timeout", "to register a publisher at the conductor"), Number < [](O& o) -> auto& {
  return o.breaker.failures;
}
, 1, 1000000 > ("breaker-failures", "in a row until an engine is left alone"), Time < [
](O& o) -> auto& {
  return o.breaker.pause;
}
> ("breaker-pause", "for so long, at first"), Size < [](O& o) -> auto& {
  return o.clients.max_body;
}
> ("max-body", "of one request"), Size < [](O& o) -> auto& { return o.max_inflight_bytes; }
> ("max-inflight-bytes", "of all requests together"), Number < [](O& o) -> auto& {
  return o.max_connections;
}
, 1, 1000000 > ("max-connections", "of clients"), Size < [](O& o) -> auto& {
  return o.token_cache_bytes;
}
> ("token-cache", "for the tokens of prompts"),
};  // namespace conductor::proxy
return kAll;
}

}  // namespace conductor::proxy
