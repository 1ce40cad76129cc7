#ifndef CONDUCTOR_DAEMON_PROXY_CHOREOGRAPHY_H_
#define CONDUCTOR_DAEMON_PROXY_CHOREOGRAPHY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/proxy/http_head.h"
#include "daemon/proxy/json_members.h"
#include "lib/base/result.h"

namespace conductor::proxy {

// How the KV cache of a prompt comes from the engine that prefills to the one that decodes: which
// request goes to which of them when, and what it says. docs/proxy.md has a picture of each.
enum class Connector : uint8_t {
  kNixl,             // NixlConnector: prefill, then decode with what it answered
  kNone,             // engines that need no word about it
  kStore,            // a shared store: MooncakeStoreConnector, AscendStore, LMCache
  kMooncake,         // MooncakeConnector with bootstrap servers: both at once
  kAscend,           // vllm-ascend: as kNixl
  kAscendLayerwise,  // decode first, which calls back for its prefill
  kSglang,           // both at once, by a bootstrap room
};

// "nixl", "none", "store", "mooncake", "ascend", "ascend-layerwise", "sglang".
[[nodiscard]] std::string_view ConnectorName(Connector connector);
[[nodiscard]] Result<Connector> ParseConnector(std::string_view text);

// The order of the two legs.
enum class Order : uint8_t {
  kPrefillFirst,     // decode begins when prefill has answered
  kTogether,         // both are asked at once; the answer is decode's
  kDecodeCallsBack,  // decode is asked, and asks the proxy for the prefill
};

// What is to be sent to one engine.
struct Leg {
  std::string body;
  Fields headers;  // beside those that every leg has
};

// A client's request.
struct Asked {
  std::string_view body;  // a JSON object
  const JsonMembers& members;
};

// Who prefills, for those who have to be told.
struct Prefiller {
  std::string host;  // as the proxy reaches it, IPv6 without brackets
  std::optional<uint32_t> rank;
  uint16_t bootstrap_port = 0;  // 0: it has none that is to be named
  std::string engine_id;        // of the rank, by its bootstrap server; empty: not known
  // Of this attempt's own, and of no other's: nobody can guess them.
  uint64_t room = 0;       // below 2^63
  std::string request_id;  // by which engines know it
};

// One way to do it. Pure; any thread.
class Choreography {
 public:
  virtual ~Choreography() = default;

  [[nodiscard]] virtual Order order() const = 0;
  // What prefill is asked. The default: one token and no stream, which every engine of vLLM's
  // family takes for prefill only; with `kv_transfer_params` where PrefillParams() has some.
  [[nodiscard]] virtual Leg Prefill(const Asked& asked, const Prefiller& prefiller) const;
  // What decode is asked. `answer` is prefill's whole answer (kPrefillFirst), empty otherwise.
  [[nodiscard]] virtual Leg Decode(const Asked& asked, const Prefiller& prefiller,
                                   std::string_view answer) const = 0;
  // What a decoder is asked that shall prefill by itself.
  [[nodiscard]] static Leg Alone(const Asked& asked) { return {std::string(asked.body), {}}; }
  // Prefillers have a bootstrap server, whose engine ids it needs.
  [[nodiscard]] virtual bool needs_bootstrap_ids() const { return false; }
  // A prefiller takes a request to the data-parallel rank that kRankHeader says; otherwise to that
  // of its room, modulo their number.
  [[nodiscard]] virtual bool pins_rank_by_header() const { return true; }
  // The logprobs of the prompt are in the prefiller's answer (prompt_logprobs.h).
  [[nodiscard]] virtual bool has_prompt_logprobs() const { return false; }
  // The prefiller counts as loaded until decode has sent its first bytes, for it holds the blocks.
  [[nodiscard]] virtual bool holds_prefill_until_first_byte() const { return false; }
  // Decoders may end an answer early, for the rest to be asked for again (recomputed.h).
  [[nodiscard]] virtual bool may_be_recomputed() const { return false; }
};

struct ChoreographyOptions {
  Connector connector = Connector::kNixl;
  // Decoders fetch from the host that the proxy knows the prefiller by, in place of the one that it
  // says, which may be an address to bind to.
  bool override_remote_host = false;
  std::string metaserver;  // kAscendLayerwise: "http://HOST:PORT/v1/metaserver"
};

[[nodiscard]] std::unique_ptr<Choreography> MakeChoreography(const ChoreographyOptions& options);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_CHOREOGRAPHY_H_
