#include <algorithm>
#include <utility>

#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/serving.h"

namespace conductor::proxy {

Awaitable<void> ServePrefillFirst(Completion& completion) {
  Request& request = completion.request;
  Shared& shared = request.shared;
  Prefiller prefiller;
  const MakeLeg make_prefill = [&](const Dispatch& dispatch) -> std::optional<Outgoing> {
    auto found = completion.PrefillerOf(dispatch);
    if (!found) return std::nullopt;
    prefiller = *std::move(found);
    completion.Chose(dispatch);
    return Send(completion.PrefillLeg(prefiller));
  };
  Prefilled prefilled = co_await RunPrefill(request, completion.PrefillPlan(), make_prefill);
  if (prefilled.kind == Prefilled::Kind::kLeft || prefilled.kind == Prefilled::Kind::kAnswered) {
    co_return;
  }
  if (prefilled.kind == Prefilled::Kind::kFailed) {
    co_return co_await ServeWithoutPrefill(completion, std::move(prefilled.failure));
  }

  const bool holds_blocks = !TransferParams(prefilled.answer).empty();
  Outgoing leg = Send(shared.choreography.Decode(completion.asked, prefiller, prefilled.answer));
  // One of these is enough to wait with.
  std::string().swap(prefilled.answer);
  std::string().swap(request.asked.body);
  if (!shared.choreography.holds_prefill_until_first_byte()) prefilled.dispatch.Release();
  const MakeLeg make_decode = [&leg](const Dispatch&) -> std::optional<Outgoing> { return leg; };
  DecodeHooks hooks;
  hooks.first_byte = [&] {
    leg.body.reset();
    prefilled.dispatch.Release();
  };
  LegPlan plan = completion.DecodePlan();
  // The prefiller's blocks are for one: whoever failed may have fetched them.
  plan.attempts = std::min<uint32_t>(plan.attempts, 2);
  const Decoded decoded = co_await RunDecode(request, plan, make_decode, hooks);
  const bool was_left = decoded.kind == Decoded::Kind::kLeft && !decoded.reached;
  if (holds_blocks && (was_left || decoded.kind == Decoded::Kind::kFailed)) {
    shared.metrics.Stranded();
  }
  if (decoded.kind == Decoded::Kind::kFailed) co_await AnswerFailure(request, decoded.failure);
}

}  // namespace conductor::proxy
