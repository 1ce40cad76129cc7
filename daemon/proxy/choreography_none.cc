#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

// Engines that need no word about it: prefill, then decode, each with the client's own body. What a
// prefiller says is not passed on.
class None : public Choreography {
 public:
  [[nodiscard]] Order order() const override { return Order::kPrefillFirst; }
  [[nodiscard]] Leg Decode(const Asked& asked, const Prefiller&, std::string_view) const override {
    return Alone(asked);
  }
};

}  // namespace

std::unique_ptr<Choreography> MakeNone() { return std::make_unique<None>(); }

}  // namespace conductor::proxy
