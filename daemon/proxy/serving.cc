#include "daemon/proxy/serving.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/request_id.h"

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

// Of all 63 bits it leaves one, for a rank to be brought in.
uint64_t Room() { return Unguessable() >> 2; }

// The decoders that lack too much of the prompt to do it without a prefiller.
std::vector<std::string> LackingDecoders(const Completion& completion) {
  const Advice& advice = completion.advice;
  const uint32_t below = completion.request.shared.options.skip_prefill_below;
  std::vector<std::string> lacking;
  for (const auto& engine : completion.request.shared.fleet.Engines(Role::kDecode)) {
    const auto found = advice.decoders.find(engine->name());
    const uint64_t held = found == advice.decoders.end() ? 0 : found->second.longest();
    if (advice.prompt_tokens - std::min(held, advice.prompt_tokens) > below) {
      lacking.push_back(engine->name());
    }
  }
  return lacking;
}

// The client's body as it is, which counts as the client's. Nobody looks at it behind that: it is
// moved.
Outgoing SendAsked(Request& request) {
  return {std::make_shared<const std::string>(std::move(request.asked.body)), {}};
}

// The same leg, at the rank that holds most of the prompt.
Outgoing AtRank(Outgoing leg, const Dispatch& dispatch) {
  if (dispatch.held() && dispatch.held()->rank) {
    leg.headers.Set(kRankHeader, std::to_string(*dispatch.held()->rank));
  }
  return leg;
}

// Where decoders hold nearly all of it, so that a prefiller has nothing to do, one of these does
// it. False: none of them could, and nothing has been answered.
Awaitable<bool> ServeByHolder(Completion& completion) {
  Request& request = completion.request;
  const Shared& shared = request.shared;
  if (shared.options.skip_prefill_below == 0 || completion.advice.decoders.empty()) {
    co_return false;
  }
  LegPlan plan = completion.DecodePlan();
  plan.policy = Policy::kScore;
  plan.held = &completion.advice.decoders;
  plan.but_not = LackingDecoders(completion);
  plan.has_way_out = true;
  if (!shared.fleet.CanPick(Role::kDecode, plan.but_not, MonoNow())) co_return false;
  Outgoing whole = Send(request.shared, Choreography::Alone(completion.asked));
  const MakeLeg make = [&](const Dispatch& dispatch) -> std::optional<Outgoing> {
    completion.Chose(dispatch);
    return AtRank(whole, dispatch);
  };
  DecodeHooks hooks;
  hooks.first_byte = [&] {
    whole.body.reset();
    request.shared.metrics.SkippedPrefill();
  };
  const Decoded decoded = co_await RunDecode(request, plan, make, hooks);
  if (decoded.kind != Decoded::Kind::kFailed) co_return true;
  RenameForEngines(request);
  co_return false;
}

Awaitable<void> ServeUnified(Completion& completion) {
  LegPlan plan = completion.PrefillPlan();
  plan.role = Role::kUnified;
  plan.name = "decode";
  Outgoing whole = SendAsked(completion.request);
  const MakeLeg make = [&](const Dispatch& dispatch) -> std::optional<Outgoing> {
    completion.Chose(dispatch);
    return AtRank(whole, dispatch);
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
  const uint32_t attempts = 1 + request.shared.options.retries;
  const bool in_turns = request.shared.options.effective_policy() == Policy::kRoundRobin;
  return {.role = Role::kDecode,
          .policy = in_turns ? Policy::kRoundRobin : Policy::kLeastLoaded,
          .load = load,
          .prompt_tokens = advice.prompt_tokens,
          .attempts = attempts,
          .name = "decode"};
}

LegPlan Completion::PairedDecodePlan() const {
  LegPlan plan = DecodePlan();
  plan.attempts = std::min<uint32_t>(plan.attempts, 2);
  return plan;
}

std::optional<LegFailure> Completion::NoDecoder() const {
  const auto able = request.shared.fleet.CanPick(Role::kDecode, {}, MonoNow());
  if (able) return std::nullopt;
  return NoEngine(able.error(), DecodePlan());
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
  prefiller.bootstrap_port = shared.options.BootstrapPortOf(dispatch.engine().spec());
  prefiller.room = Room();
  prefiller.request_id = request.record.engine_request_id;
  if (dispatch.held()) prefiller.rank = dispatch.held()->rank;
  if (prefiller.rank && !shared.choreography.pins_rank_by_header()) {
    const uint64_t ranks = std::max(dispatch.held()->ranks, *prefiller.rank + 1);
    prefiller.room += *prefiller.rank - prefiller.room % ranks;
  }
  if (!shared.choreography.needs_bootstrap_ids()) return prefiller;
  Engine& engine = *dispatch.shared_engine();
  const BootstrapIds ids = engine.bootstrap();
  if (ids.empty()) return std::nullopt;
  const auto held = prefiller.rank ? ids.find(*prefiller.rank) : ids.end();
  const auto chosen =
      held != ids.end()
          ? held
          : std::next(ids.begin(), static_cast<ptrdiff_t>(engine.Turn() % ids.size()));
  prefiller.rank = chosen->first;
  prefiller.engine_id = chosen->second;
  return prefiller;
}

Leg Completion::PrefillLeg(const Prefiller& prefiller, const Asked& part) const {
  Leg leg = request.shared.choreography.Prefill(part, prefiller);
  if (prefiller.rank && request.shared.choreography.pins_rank_by_header()) {
    leg.headers.Set(kRankHeader, std::to_string(*prefiller.rank));
  }
  return leg;
}

Awaitable<void> AnswerFailure(Request& request, const LegFailure& failure) {
  request.record.outcome = failure.type;
  co_await AnswerError(request, failure.status, failure.type, failure.message, failure.retry_after);
}

Awaitable<void> ServeDecodeAlone(Completion& completion, std::string_view why) {
  Request& request = completion.request;
  request.shared.metrics.FellBack(why);
  // What was tried before may not have ended there yet.
  RenameForEngines(request);
  LegPlan plan = completion.DecodePlan();
  if (!completion.advice.decoders.empty()) {
    plan.policy = Policy::kScore;
    plan.held = &completion.advice.decoders;
  }
  Outgoing whole = SendAsked(request);
  const MakeLeg make = [&](const Dispatch& dispatch) -> std::optional<Outgoing> {
    completion.Chose(dispatch);
    request.record.prefill.clear();
    request.record.why.append("; fallback=").append(why);
    return AtRank(whole, dispatch);
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
  if (auto body = WithoutOurs(*members)) {
    request.asked.body = *std::move(body);
    members = JsonMembers::Parse(request.asked.body);
    if (!members) co_return;  // never: it was read before
  }
  RenameForEngines(request);
  Advice advice;
  if (shared.advisor != nullptr) {
    const Advisor::Prompt prompt{request.asked.head.path(), request.asked.body, *members,
                                 request.asked.head.fields, request.record.engine_request_id};
    advice = co_await shared.advisor->Advise(prompt, request.lane, request.departure);
    if (request.departure.happened()) co_return;
    if (!advice.fallback.empty()) request.shared.metrics.FellBack(advice.fallback);
  }
  const double load = LoadOf(advice, request.asked.body);
  Completion completion{request, {request.asked.body, *members}, std::move(advice), load};
  const bool is_unified = shared.options.is_unified();
  bool is_served = false;
  if (is_unified) {
    co_await ServeUnified(completion);
  } else {
    is_served = co_await ServeByHolder(completion);
  }
  if (!is_unified && !is_served) {
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
  RenameForEngines(request);
  if (const auto members = JsonMembers::Parse(request.asked.body)) {
    if (auto body = WithoutOurs(*members)) request.asked.body = *std::move(body);
  }
  Outgoing whole = SendAsked(request);
  const MakeLeg make = [&whole](const Dispatch&) -> std::optional<Outgoing> { return whole; };
  DecodeHooks hooks;
  hooks.first_byte = [&whole] { whole.body.reset(); };
  const Decoded decoded = co_await RunDecode(request, plan, make, hooks);
  if (decoded.kind == Decoded::Kind::kFailed) co_await AnswerFailure(request, decoded.failure);
}

}  // namespace conductor::proxy
