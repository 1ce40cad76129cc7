#include <fmt/format.h>

#include <utility>

#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

// vllm-ascend's layerwise connector: the decoder makes room, and then posts to the metaserver,
// which is the proxy, what the prefiller needs to write there layer by layer. `answer` of Decode()
// is not used; the prefill leg's params are what was posted (daemon/proxy/metaserver.h).
class AscendLayerwise : public Choreography {
 public:
  explicit AscendLayerwise(std::string metaserver) : metaserver_(std::move(metaserver)) {}

  [[nodiscard]] Order order() const override { return Order::kDecodeCallsBack; }

  [[nodiscard]] Leg Prefill(const Asked& asked, const Prefiller&) const override {
    return {PrefillBody(asked, MinTokens::kSetToOne, {}), {}};
  }

  [[nodiscard]] Leg Decode(const Asked& asked, const Prefiller&, std::string_view) const override {
    return {
        DecodeBody(asked, fmt::format(R"({{"do_remote_decode": false, "do_remote_prefill": true, )"
                                      R"("metaserver": {}}})",
                                      JsonString(metaserver_))),
        {}};
  }

 private:
  const std::string metaserver_;
};

}  // namespace

std::unique_ptr<Choreography> MakeAscendLayerwise(std::string metaserver) {
  return std::make_unique<AscendLayerwise>(std::move(metaserver));
}

}  // namespace conductor::proxy
