#include <fmt/format.h>

#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

// vLLM's MooncakeConnector with bootstrap servers: the decoder is told whom to ask for the blocks,
// under a name that the proxy gives to the transfer, and waits until they have come. Both engines
// begin at once; the prefiller's answer says nothing.
class Mooncake : public Choreography {
 public:
  [[nodiscard]] Order order() const override { return Order::kTogether; }
  [[nodiscard]] bool needs_bootstrap_ids() const override { return true; }

  [[nodiscard]] Leg Prefill(const Asked& asked, const Prefiller& prefiller) const override {
    Leg leg;
    leg.body = PrefillBody(
        asked, MinTokens::kRemove,
        fmt::format(
            R"({{"do_remote_decode": true, "do_remote_prefill": false, "transfer_id": {}}})",
            TransferId(prefiller)));
    if (prefiller.rank) leg.headers.Add(kRankHeader, std::to_string(*prefiller.rank));
    return leg;
  }

  [[nodiscard]] Leg Decode(const Asked& asked, const Prefiller& prefiller,
                           std::string_view) const override {
    return {
        DecodeBody(asked, fmt::format(R"({{"do_remote_decode": false, "do_remote_prefill": true, )"
                                      R"("remote_bootstrap_addr": {}, "remote_engine_id": {}, )"
                                      R"("transfer_id": {}}})",
                                      JsonString(HttpUrl(prefiller.host, prefiller.bootstrap_port)),
                                      JsonString(prefiller.engine_id), TransferId(prefiller))),
        {}};
  }

 private:
  static std::string TransferId(const Prefiller& prefiller) {
    return JsonString(fmt::format("xfer-{}", prefiller.request_id));
  }
};

}  // namespace

std::unique_ptr<Choreography> MakeMooncake() { return std::make_unique<Mooncake>(); }

}  // namespace conductor::proxy
