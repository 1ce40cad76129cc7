#include "daemon/proxy/serving.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>

#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

// A prompt of so many tokens counts as one request more.
constexpr double kTokensPerRequest = 4096;
// Where a prompt's tokens are not known.
constexpr double kBytesPerToken = 4;

double LoadOf(const Advice& advice, std::string_view body) {
  const double tokens = advice.prompt_tokens > 0
                            ? static_cast<double>(advice.prompt_tokens)
                            : static_cast<double>(body.size()) / kBytesPerToken;
  return 1 + tokens / kTokensPerRequest;
}

uint64_t Room() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return generator() >> 1;
}

// Whether a decoder holds nearly all of it, so that a prefiller has nothing to do.
bool NeedsNoPrefill(const Completion& completion) {
  const uint32_t below = completion.request.shared.options.skip_prefill_below;
  const Advice& advice = completion.advice;
  if (below == 0 || advice.prompt_tokens == 0) return false;
  uint64_t most = 0;
  for (const auto& [name, held] : advice.decoders) most = std::max(most, held.longest());
  return advice.prompt_tokens - std::min(most, advice.prompt_tokens) <= below;
}

// The client's body as it is. Nobody looks at it behind that: it is moved.
Outgoing SendAsked(Request& request) { return Send({std::move(request.asked.body), {}}); }

Awaitable<void> ServeUnified(Completion& completion) {
  LegPlan plan = completion.PrefillPlan();
  plan.role = Role::kUnified;
  plan.name = "decode";
  Outgoing whole = SendAsked(completion.request);
  const MakeLeg make = [&](const Dispatch& dispatch) -> std::optional<Outgoing> {
    completion.Chose(dispatch);
    Outgoing leg = whole;
    if (dispatch.held() && dispatch.held()->rank) {
      leg.headers.Add(kRankHeader, std::to_string(*dispatch.held()->rank));
    }
    return leg;
  };
  DecodeHooks hooks;
  hooks.first_byte = [&whole] { whole.body.reset(); };
  const Decoded decoded = co_await RunDecode(completion.request, plan, make, hooks);
  if (decoded.kind == Decoded::Kind::kFailed) {
    co_await AnswerFailure(completion.request, decoded.failure);
  }
}

}  // namespace

LegPlan Completion::PrefillPlan() const {
  return {.role = Role::kPrefill,
          .policy = request.shared.options.effective_policy(),
          .load = load,
          .prompt_tokens = advice.prompt_tokens,
          .held = &advice.prefillers,
          .attempts = 1 + request.shared.options.retries,
          .name = "prefill"};
}

LegPlan Completion::DecodePlan() const {
  const bool in_turns = request.shared.options.effective_policy() == Policy::kRoundRobin;
  return {.role = Role::kDecode,
          .policy = in_turns ? Policy::kRoundRobin : Policy::kLeastLoaded,
          .load = load,
          .prompt_tokens = advice.prompt_tokens,
          .attempts = 1 + request.shared.options.retries,
          .name = "decode"};
}

void Completion::Chose(const Dispatch& dispatch) const {
  AccessRecord& record = request.record;
  record.rank.reset();
  record.matched_tokens = 0;
  record.prompt_tokens = advice.prompt_tokens;
  if (dispatch.held()) {
    record.rank = dispatch.held()->rank;
    record.matched_tokens = dispatch.held()->longest();
  }
  record.why = ReasonName(dispatch.reason());
  if (!advice.fallback.empty()) record.why.append("; fallback=").append(advice.fallback);
}

std::optional<Prefiller> Completion::PrefillerOf(const Dispatch& dispatch) const {
  const Shared& shared = request.shared;
  Prefiller prefiller;
  prefiller.host = dispatch.engine().spec().host;
  prefiller.bootstrap_port = shared.options.bootstrap_port;
  prefiller.room = Room();
  if (dispatch.held()) prefiller.rank = dispatch.held()->rank;
  if (!shared.choreography.needs_bootstrap_ids()) return prefiller;
  const BootstrapIds ids = dispatch.engine().bootstrap();
  if (ids.empty()) return std::nullopt;
  const auto held = prefiller.rank ? ids.find(*prefiller.rank) : ids.end();
  const auto chosen = held != ids.end()
                          ? held
                          : std::next(ids.begin(), static_cast<ptrdiff_t>(Room() % ids.size()));
  prefiller.rank = chosen->first;
  prefiller.engine_id = chosen->second;
  return prefiller;
}

Leg Completion::PrefillLeg(const Prefiller& prefiller, const Asked& part) const {
  Leg leg = request.shared.choreography.Prefill(part, prefiller);
  if (prefiller.rank) leg.headers.Set(kRankHeader, std::to_string(*prefiller.rank));
  return leg;
}

Awaitable<void> AnswerFailure(Request& request, const LegFailure& failure) {
  request.record.outcome = failure.type;
  co_await AnswerError(request, failure.status, failure.type, failure.message, failure.retry_after);
}

Awaitable<void> ServeDecodeAlone(Completion& completion, std::string_view why) {
  Request& request = completion.request;
  if (!why.empty()) request.shared.metrics.FellBack(why);
  LegPlan plan = completion.DecodePlan();
  if (!completion.advice.decoders.empty()) {
    plan.policy = Policy::kScore;
    plan.held = &completion.advice.decoders;
  }
  Outgoing whole = SendAsked(request);
  const MakeLeg make = [&](const Dispatch& dispatch) -> std::optional<Outgoing> {
    completion.Chose(dispatch);
    request.record.prefill.clear();
    if (!why.empty()) request.record.why.append("; fallback=").append(why);
    return whole;
  };
  DecodeHooks hooks;
  hooks.first_byte = [&whole] { whole.body.reset(); };
  const Decoded decoded = co_await RunDecode(request, plan, make, hooks);
  if (decoded.kind == Decoded::Kind::kFailed) co_await AnswerFailure(request, decoded.failure);
}

Awaitable<void> ServeWithoutPrefill(Completion& completion, LegFailure failure) {
  if (!completion.request.shared.options.prefill_required) {
    co_return co_await ServeDecodeAlone(completion, "prefill_failed");
  }
  if (failure.status != 503 || failure.retry_after == 0) failure.status = 502;
  co_await AnswerFailure(completion.request, failure);
}

Awaitable<void> ServeCompletion(Request& request) {
  const Shared& shared = request.shared;
  auto members = JsonMembers::Parse(request.asked.body);
  if (!members) {
    const std::string message =
        fmt::format("the body is no JSON object: {}", members.error().Message());
    co_return co_await AnswerError(request, 400, "invalid_request_error", message);
  }
  Advice advice;
  if (shared.advisor != nullptr) {
    const Advisor::Prompt prompt{request.asked.head.path(), request.asked.body, *members,
                                 request.asked.head.fields, request.record.request_id};
    advice = co_await shared.advisor->Advise(prompt, request.lane, request.departure);
    if (request.departure.happened()) co_return;
    if (!advice.fallback.empty()) request.shared.metrics.FellBack(advice.fallback);
  }
  const double load = LoadOf(advice, request.asked.body);
  Completion completion{
      request, {request.asked.body, *members, request.record.request_id}, std::move(advice), load};
  if (shared.options.is_unified()) {
    co_await ServeUnified(completion);
  } else if (NeedsNoPrefill(completion)) {
    request.shared.metrics.SkippedPrefill();
    co_await ServeDecodeAlone(completion, {});
  } else {
    switch (shared.choreography.order()) {
      case Order::kPrefillFirst:
        if (shared.choreography.may_be_recomputed()) {
          co_await ServeAscend(completion);
        } else {
          co_await ServePrefillFirst(completion);
        }
        break;
      case Order::kTogether:
        co_await ServeTogether(completion);
        break;
      case Order::kDecodeCallsBack:
        co_await ServeDecodeFirst(completion);
        break;
    }
  }
  if (completion.advice.prompt_tokens > 0 && request.record.status > 0) {
    request.shared.metrics.Matched(completion.advice.prompt_tokens, request.record.matched_tokens);
  }
}

Awaitable<void> PassOn(Request& request) {
  const bool is_unified = request.shared.options.is_unified();
  const LegPlan plan{.role = is_unified ? Role::kUnified : Role::kDecode,
                     .attempts = 1 + request.shared.options.retries,
                     .name = "decode"};
  Outgoing whole = SendAsked(request);
  const MakeLeg make = [&whole](const Dispatch&) -> std::optional<Outgoing> { return whole; };
  DecodeHooks hooks;
  hooks.first_byte = [&whole] { whole.body.reset(); };
  const Decoded decoded = co_await RunDecode(request, plan, make, hooks);
  if (decoded.kind == Decoded::Kind::kFailed) co_await AnswerFailure(request, decoded.failure);
}

}  // namespace conductor::proxy
