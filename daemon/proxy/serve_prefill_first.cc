#include <utility>

#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/serving.h"

namespace conductor::proxy {

Awaitable<void> ServePrefillFirst(Completion& completion) {
  Request& request = completion.request;
  Shared& shared = request.shared;
  if (const auto none = completion.NoDecoder()) co_return co_await AnswerFailure(request, *none);
  Prefiller prefiller;
  const MakeLeg make_prefill = [&](const Dispatch& dispatch) -> std::optional<Outgoing> {
    auto found = completion.PrefillerOf(dispatch);
    if (!found) return std::nullopt;
    prefiller = *std::move(found);
    completion.Chose(dispatch);
    return Send(shared, completion.PrefillLeg(prefiller));
  };
  Prefilled prefilled = co_await RunPrefill(request, completion.PrefillPlan(), make_prefill);
  if (prefilled.kind == Prefilled::Kind::kLeft || prefilled.kind == Prefilled::Kind::kAnswered) {
    co_return;
  }
  if (prefilled.kind == Prefilled::Kind::kFailed) {
    co_return co_await ServeWithoutPrefill(completion, std::move(prefilled.failure));
  }

  const bool holds_blocks = !TransferParams(prefilled.answer).empty();
  Outgoing leg =
      Send(shared, shared.choreography.Decode(completion.asked, prefiller, prefilled.answer));
  // One of these is enough to wait with.
  std::string().swap(prefilled.answer);
  request.client.ReleaseBody(request.asked);
  if (!shared.choreography.holds_prefill_until_first_byte()) prefilled.dispatch.Release();
  const MakeLeg make_decode = [&leg](const Dispatch&) -> std::optional<Outgoing> { return leg; };
  DecodeHooks hooks;
  hooks.first_byte = [&] {
    leg.body.reset();
    prefilled.dispatch.Release();
  };
  const Decoded decoded =
      co_await RunDecode(request, completion.PairedDecodePlan(), make_decode, hooks);
  if (holds_blocks && decoded.has_left_blocks()) shared.metrics.Stranded();
  if (decoded.kind == Decoded::Kind::kFailed) co_await AnswerFailure(request, decoded.failure);
}

}  // namespace conductor::proxy
