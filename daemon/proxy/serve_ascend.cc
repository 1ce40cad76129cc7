#include <fmt/format.h>

#include <utility>

#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/recomputed.h"
#include "daemon/proxy/serving.h"

namespace conductor::proxy {
namespace {

// Of one answer; a decoder that gives up its blocks again and again has too few.
constexpr uint32_t kMostContinuations = 16;

// A leg of a continuation failed: the client, who has got a part, must see that it is not all.
void BreakOff(Request& request, const LegFailure& failure) {
  request.record.outcome = fmt::format("broke_off: {}", failure.message);
  request.client.Abort();
}

// Prefill and decode of what is asked for now. `said` grows by what decode says.
Awaitable<Decoded> ServePart(Completion& completion, SaidSoFar& said, std::string_view body,
                             bool may_continue) {
  Request& request = completion.request;
  Shared& shared = request.shared;
  Decoded result;
  if (auto none = completion.NoDecoder()) {
    result.failure = *std::move(none);
    co_return result;
  }
  RenameForEngines(request);
  // It was read before, or written here.
  const auto members = JsonMembers::Parse(body);
  if (!members) co_return result;
  const Asked asked{body, *members};
  Prefiller prefiller;
  const MakeLeg make_prefill = [&](const Dispatch& dispatch) -> std::optional<Outgoing> {
    auto found = completion.PrefillerOf(dispatch);
    if (!found) return std::nullopt;
    prefiller = *std::move(found);
    completion.Chose(dispatch);
    return Send(shared, completion.PrefillLeg(prefiller, asked));
  };
  Prefilled prefilled = co_await RunPrefill(request, completion.PrefillPlan(), make_prefill);
  if (prefilled.kind == Prefilled::Kind::kLeft) {
    result.kind = Decoded::Kind::kLeft;
    co_return result;
  }
  if (prefilled.kind == Prefilled::Kind::kAnswered) {
    result.kind = Decoded::Kind::kAnswered;
    co_return result;
  }
  if (prefilled.kind == Prefilled::Kind::kFailed) {
    result.failure = std::move(prefilled.failure);
    if (request.client.has_begun()) co_return result;
    co_await ServeWithoutPrefill(completion, std::move(result.failure));
    result.kind = Decoded::Kind::kAnswered;
    co_return result;
  }
  const bool can_continue =
      may_continue && CanContinue(completion.asked.members, AskedByOf(request.asked.head.path()));
  bool holds_blocks = !TransferParams(prefilled.answer).empty();
  AscendAnswer change(said, CachedTokens(prefilled.answer), can_continue);
  Outgoing leg = Send(shared, shared.choreography.Decode(asked, prefiller, prefilled.answer));
  leg.headers.Set("Accept-Encoding", "identity");  // it is read here
  std::string().swap(prefilled.answer);
  const MakeLeg make_decode = [&leg](const Dispatch&) -> std::optional<Outgoing> { return leg; };
  DecodeHooks hooks;
  hooks.change = &change;
  hooks.first_byte = [&] {
    holds_blocks = false;  // they have been fetched
    leg.body.reset();
    if (!can_continue) request.client.ReleaseBody(request.asked);
    prefilled.dispatch.Release();
  };
  result = co_await RunDecode(request, completion.PairedDecodePlan(), make_decode, hooks);
  if (holds_blocks && result.has_left_blocks()) shared.metrics.Stranded();
  co_return result;
}

}  // namespace

Awaitable<void> ServeAscend(Completion& completion) {
  Request& request = completion.request;
  SaidSoFar said;
  // Of a part behind the first. It is needed until its answer begins, and continued answers are
  // few.
  std::string continued;
  std::string_view body = completion.asked.body;
  for (uint32_t part = 0;; ++part) {
    const Decoded decoded = co_await ServePart(completion, said, body, part < kMostContinuations);
    if (decoded.kind == Decoded::Kind::kFailed) {
      if (request.client.has_begun()) co_return BreakOff(request, decoded.failure);
      co_return co_await AnswerFailure(request, decoded.failure);
    }
    if (decoded.kind != Decoded::Kind::kInterrupted) co_return;
    request.shared.metrics.FellBack("recomputed");
    continued = ContinuedBody(completion.asked.members, AskedByOf(request.asked.head.path()), said);
    body = continued;
  }
}

}  // namespace conductor::proxy
