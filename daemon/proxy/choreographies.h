#ifndef CONDUCTOR_DAEMON_PROXY_CHOREOGRAPHIES_H_
#define CONDUCTOR_DAEMON_PROXY_CHOREOGRAPHIES_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/proxy/choreography.h"

// The choreographies, a file each, and what they share.
namespace conductor::proxy {

[[nodiscard]] std::unique_ptr<Choreography> MakeNixl(bool override_remote_host);
[[nodiscard]] std::unique_ptr<Choreography> MakeNone();
[[nodiscard]] std::unique_ptr<Choreography> MakeStore();
[[nodiscard]] std::unique_ptr<Choreography> MakeMooncake();
[[nodiscard]] std::unique_ptr<Choreography> MakeAscend(bool override_remote_host);
[[nodiscard]] std::unique_ptr<Choreography> MakeAscendLayerwise(std::string metaserver);
[[nodiscard]] std::unique_ptr<Choreography> MakeSglang();

// What becomes of min_tokens, which must not ask for more than the one token. kSetToOne also where
// the client says none: the token cannot be the end then, and a prefiller keeps blocks only for an
// answer that was cut at its length.
enum class MinTokens : uint8_t { kRemove, kSetToOne };

// The client's body for an engine that shall only prefill. `params`: the JSON text of
// kv_transfer_params; empty: without.
[[nodiscard]] std::string PrefillBody(const Asked& asked, MinTokens min_tokens,
                                      std::string_view params);
// The client's body with these kv_transfer_params; with none it is the client's as it is.
[[nodiscard]] std::string DecodeBody(const Asked& asked, std::string_view params);

// The kv_transfer_params of a prefiller's answer as they stand there; empty when it has none, or
// an empty object, or null.
[[nodiscard]] std::string TransferParams(std::string_view answer);
// The same object with another `remote_host`.
[[nodiscard]] std::string WithRemoteHost(std::string_view params, std::string_view host);

// A client's body without what is the proxy's to say to engines: whom to fetch blocks from, and
// where. A client that could say it would make engines ask hosts of its choice, and fetch the
// blocks of others. Nothing where none of it is there.
[[nodiscard]] std::optional<std::string> WithoutOurs(const JsonMembers& members);

// Whether more than one answer to a prompt is asked for.
[[nodiscard]] bool HasSeveralChoices(const JsonMembers& members);

// Header of the request that pins a data-parallel rank.
inline constexpr std::string_view kRankHeader = "X-data-parallel-rank";

// "http://HOST:PORT".
[[nodiscard]] std::string HttpUrl(std::string_view host, uint16_t port);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_CHOREOGRAPHIES_H_
