#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

// A store that both engines use: MooncakeStoreConnector, MooncakeConnectorStoreV1, AscendStore,
// LMCache. Blocks are found there by what they hold, so the decoder needs no word about them. Some
// prefillers answer with params all the same; those are passed on.
class Store : public Choreography {
 public:
  [[nodiscard]] Order order() const override { return Order::kPrefillFirst; }
  [[nodiscard]] Leg Decode(const Asked& asked, const Prefiller&,
                           std::string_view answer) const override {
    return {DecodeBody(asked, TransferParams(answer)), {}};
  }
};

}  // namespace

std::unique_ptr<Choreography> MakeStore() { return std::make_unique<Store>(); }

}  // namespace conductor::proxy
