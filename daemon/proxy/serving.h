#ifndef CONDUCTOR_DAEMON_PROXY_SERVING_H_
#define CONDUCTOR_DAEMON_PROXY_SERVING_H_

#include "daemon/proxy/legs.h"
#include "daemon/proxy/request.h"

namespace conductor::proxy {

// POST /v1/completions and /v1/chat/completions: asks for advice, chooses, and goes through the
// choreography. Ends with an answer, or with the client's leaving.
[[nodiscard]] Awaitable<void> ServeCompletion(Request& request);

// Any other request, to one engine as it is.
[[nodiscard]] Awaitable<void> PassOn(Request& request);

// A completion on its way: what the orders of the two legs share.
struct Completion {
  Request& request;
  const Asked asked;
  const Advice advice;
  const double load;  // in requests of usual size

  // The choice of a prefiller (or a unified engine), and of a decoder.
  [[nodiscard]] LegPlan PrefillPlan() const;
  [[nodiscard]] LegPlan DecodePlan() const;
  // Of a decoder that a prefiller works for: two attempts at most. Whoever failed may have fetched
  // the blocks, or a part of them.
  [[nodiscard]] LegPlan PairedDecodePlan() const;
  // Why there is no decoder to ask: nobody shall prefill in vain then.
  [[nodiscard]] std::optional<LegFailure> NoDecoder() const;
  // Writes down who was chosen and why, for header and log.
  void Chose(const Dispatch& dispatch) const;
  // What the choreography is told of the engine that was chosen to prefill. Nothing where its
  // bootstrap server has not said yet who it is.
  [[nodiscard]] std::optional<Prefiller> PrefillerOf(const Dispatch& dispatch) const;
  // The prefill leg for that engine, its rank pinned; of `part` where that is what is asked now.
  [[nodiscard]] Leg PrefillLeg(const Prefiller& prefiller) const {
    return PrefillLeg(prefiller, asked);
  }
  [[nodiscard]] Leg PrefillLeg(const Prefiller& prefiller, const Asked& part) const;
};

// The orders, a file each. `completion` lives until they are done.
[[nodiscard]] Awaitable<void> ServePrefillFirst(Completion& completion);
// The same, where decoders may break off and want to be asked for the rest (recomputed.h).
[[nodiscard]] Awaitable<void> ServeAscend(Completion& completion);
[[nodiscard]] Awaitable<void> ServeTogether(Completion& completion);
[[nodiscard]] Awaitable<void> ServeDecodeFirst(Completion& completion);

// The decoder does it all. `why`: the fallback that it is, for the metrics.
[[nodiscard]] Awaitable<void> ServeDecodeAlone(Completion& completion, std::string_view why);

// No prefiller could do it: decode alone, or where that is not wanted, an answer that says so.
[[nodiscard]] Awaitable<void> ServeWithoutPrefill(Completion& completion, LegFailure failure);

// The end of a request whose leg came to nothing.
[[nodiscard]] Awaitable<void> AnswerFailure(Request& request, const LegFailure& failure);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_SERVING_H_
