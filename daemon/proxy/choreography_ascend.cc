#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

// vllm-ascend: as with NIXL, but min_tokens is 1, and the prefiller holds the blocks until the
// decoder has begun.
class Ascend : public Choreography {
 public:
  explicit Ascend(bool override_remote_host) : nixl_(MakeNixl(override_remote_host)) {}

  [[nodiscard]] Order order() const override { return Order::kPrefillFirst; }
  [[nodiscard]] bool holds_prefill_until_first_byte() const override { return true; }
  [[nodiscard]] bool may_be_recomputed() const override { return true; }

  [[nodiscard]] Leg Prefill(const Asked& asked, const Prefiller&) const override {
    return {PrefillBody(asked, MinTokens::kSetToOne,
                        R"({"do_remote_decode": true, "do_remote_prefill": false, )"
                        R"("remote_engine_id": null, "remote_block_ids": null, )"
                        R"("remote_host": null, "remote_port": null})"),
            {}};
  }

  [[nodiscard]] Leg Decode(const Asked& asked, const Prefiller& prefiller,
                           std::string_view answer) const override {
    return nixl_->Decode(asked, prefiller, answer);
  }

 private:
  const std::unique_ptr<Choreography> nixl_;
};

}  // namespace

std::unique_ptr<Choreography> MakeAscend(bool override_remote_host) {
  return std::make_unique<Ascend>(override_remote_host);
}

}  // namespace conductor::proxy
