#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

// vLLM's NixlConnector, pulling: the prefiller keeps its blocks and says where they are, the
// decoder fetches them and says so. What the prefiller says is passed on whole: other versions have
// other fields in it, and all of them matter to the decoder.
class Nixl : public Choreography {
 public:
  explicit Nixl(bool override_remote_host) : override_remote_host_(override_remote_host) {}

  [[nodiscard]] Order order() const override { return Order::kPrefillFirst; }

  [[nodiscard]] Leg Prefill(const Asked& asked, const Prefiller&) const override {
    return {PrefillBody(asked, MinTokens::kRemove,
                        R"({"do_remote_decode": true, "do_remote_prefill": false, )"
                        R"("remote_engine_id": null, "remote_block_ids": null, )"
                        R"("remote_host": null, "remote_port": null})"),
            {}};
  }

  // Without params the decoder prefills by itself.
  [[nodiscard]] Leg Decode(const Asked& asked, const Prefiller& prefiller,
                           std::string_view answer) const override {
    std::string params = TransferParams(answer);
    if (override_remote_host_) params = WithRemoteHost(params, prefiller.host);
    return {DecodeBody(asked, params), {}};
  }

 private:
  const bool override_remote_host_;
};

}  // namespace

std::unique_ptr<Choreography> MakeNixl(bool override_remote_host) {
  return std::make_unique<Nixl>(override_remote_host);
}

}  // namespace conductor::proxy
