#include <fmt/format.h>

#include <optional>
#include <utility>

#include "daemon/proxy/background_prefill.h"
#include "daemon/proxy/serving.h"

namespace conductor::proxy {
namespace {

// Both legs of one attempt at once.
struct Pair {
  Decoded decoded;
  std::optional<Attempt> prefill_failed;  // before the client got anything
};

Awaitable<Pair> ServePair(Completion& completion, Dispatch dispatch, const Prefiller& prefiller) {
  Request& request = completion.request;
  Departure decode_ends;
  const Departure::Listener leaves(request.departure, [&] { decode_ends.Happen(); });
  Pair pair;
  const auto prefill = BackgroundPrefill::Start(
      request, std::move(dispatch), completion.PrefillLeg(prefiller), [&](const Attempt& attempt) {
        // The decoder would wait for blocks that never come.
        if (attempt.head.status == 200 || request.client.has_begun()) return;
        pair.prefill_failed = attempt;
        decode_ends.Happen();
      });
  const Outgoing leg = Send(request.shared.choreography.Decode(completion.asked, prefiller, {}));
  const MakeLeg make = [&leg](const Dispatch&) -> std::optional<Outgoing> { return leg; };
  DecodeHooks hooks;
  hooks.departure = &decode_ends;
  pair.decoded = co_await RunDecode(request, completion.DecodePlan(), make, hooks);
  const bool is_answered = pair.decoded.kind == Decoded::Kind::kAnswered;
  prefill->Forget(!is_answered);
  co_return pair;
}

}  // namespace

Awaitable<void> ServeTogether(Completion& completion) {
  Request& request = completion.request;
  Shared& shared = request.shared;
  std::vector<std::string> tried;
  LegFailure failure;
  const LegPlan plan = completion.PrefillPlan();
  uint32_t made = 0;
  while (made < plan.attempts) {
    const Fleet::Wish wish{.policy = plan.policy,
                           .load = plan.load,
                           .prompt_tokens = plan.prompt_tokens,
                           .held = plan.held,
                           .but_not = tried};
    auto picked = shared.fleet.Pick(Role::kPrefill, wish, MonoNow());
    if (!picked) {
      if (!tried.empty()) break;
      failure = {503, "prefill_unavailable", "there is no prefill engine to ask now", 1};
      break;
    }
    Dispatch dispatch = *std::move(picked);
    const std::string name = dispatch.engine().name();
    tried.push_back(name);
    const auto prefiller = completion.PrefillerOf(dispatch);
    if (!prefiller) {
      failure = {503, "prefill_unavailable",
                 fmt::format("{}: its bootstrap server has not answered yet", name), 1};
      continue;
    }
    if (made++ > 0) shared.metrics.Retried("prefill");
    shared.metrics.Chosen("prefill", ReasonName(dispatch.reason()));
    request.record.prefill = name;
    completion.Chose(dispatch);
    Pair pair = co_await ServePair(completion, std::move(dispatch), *prefiller);
    if (request.departure.happened()) co_return;
    if (pair.decoded.kind == Decoded::Kind::kFailed) {
      co_return co_await AnswerFailure(request, pair.decoded.failure);
    }
    if (!pair.prefill_failed || request.client.has_begun()) co_return;
    const Attempt& attempt = *pair.prefill_failed;
    const int status = attempt.head.status;
    if (status >= 300 && status < 500) {
      co_return co_await Forward(request, attempt.head, attempt.body);
    }
    failure = {502, "prefill_failed",
               status == 0 ? attempt.error.what : fmt::format("{}: status {}", name, status)};
  }
  if (made == 0) {
    // Nobody is ready to prefill: that passes.
    request.record.prefill.clear();
    if (shared.choreography.needs_bootstrap_ids())
      co_return co_await AnswerFailure(request, failure);
  }
  co_await ServeWithoutPrefill(completion, failure);
}

}  // namespace conductor::proxy
