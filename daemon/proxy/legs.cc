#include "daemon/proxy/legs.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace conductor::proxy {
namespace {

// Of a prefiller's answer: one token, its logprobs, the transfer's params.
constexpr size_t kMaxPrefillAnswer = 64 << 20;

// Of 5xx, those by which an engine says that it cannot work. A 500 may be the request's fault: some
// engines answer so when a prompt is too long.
bool IsUnavailable(int status) { return status == 502 || status == 503 || status == 504; }

LegFailure OfError(const UpstreamError& error, const LegPlan& plan) {
  LegFailure failure;
  const bool is_late =
      error.kind == UpstreamError::Kind::kFirstByte || error.kind == UpstreamError::Kind::kIdle;
  failure.status = is_late ? 504 : 502;
  failure.type = fmt::format("{}_failed", plan.name);
  failure.message = error.what;
  return failure;
}

// The engines of one leg, one attempt after the other.
class Attempts {
 public:
  Attempts(Request& request, const LegPlan& plan)
      : request_(request), plan_(plan), tried_(plan.but_not) {}

  // The next engine; nothing when there is none left.
  [[nodiscard]] std::optional<Dispatch> Next() {
    if (made_ == plan_.attempts) return std::nullopt;
    const Fleet::Wish wish{.policy = plan_.policy,
                           .load = plan_.load,
                           .prompt_tokens = plan_.prompt_tokens,
                           .held = plan_.held,
                           .but_not = tried_};
    auto picked = request_.shared.fleet.Pick(plan_.role, wish, MonoNow());
    if (!picked) {
      if (made_ == 0) failure_ = NoEngine(picked.error(), plan_);
      return std::nullopt;
    }
    if (made_++ > 0) request_.shared.metrics.Retried(plan_.name);
    tried_.push_back(picked->engine().name());
    request_.shared.metrics.Chosen(plan_.name, ReasonName(picked->reason()));
    return *std::move(picked);
  }

  // Nobody can be asked with what there is. Where one was before, what it said stands.
  void GaveUp() {
    if (made_ > 1) return;
    failure_ = {503, fmt::format("{}_unavailable", plan_.name),
                fmt::format("no {} engine is ready yet", RoleName(plan_.role)), 1};
  }
  void Failed(Dispatch& dispatch, const UpstreamError& error) {
    request_.shared.metrics.UpstreamFailed(plan_.name, KindName(error.kind));
    dispatch.Failed();
    failure_ = OfError(error, plan_);
  }
  // Answered 5xx, and another one is to be asked.
  void Refused(Dispatch dispatch, int status) {
    request_.shared.metrics.UpstreamFailed(plan_.name, std::to_string(status));
    failure_ = {502, fmt::format("{}_failed", plan_.name),
                fmt::format("{}: status {}", dispatch.engine().name(), status)};
    if (IsUnavailable(status)) return dispatch.Failed();
    dispatch.Unload();
    suspects_.push_back(std::move(dispatch));
  }
  // What one engine can do and others could not was not the request's fault.
  void Succeeded(Dispatch& dispatch) {
    dispatch.Succeeded();
    for (Dispatch& suspect : suspects_) suspect.Failed();
    suspects_.clear();
  }
  [[nodiscard]] bool HasAnother() const {
    return made_ < plan_.attempts &&
           request_.shared.fleet.CanPick(plan_.role, tried_, MonoNow()).has_value();
  }
  [[nodiscard]] const LegFailure& failure() const { return failure_; }

 private:
  Request& request_;
  const LegPlan& plan_;
  uint32_t made_ = 0;
  std::vector<std::string> tried_;
  std::vector<Dispatch> suspects_;
  LegFailure failure_;
};

// The client's head for an engine's answer.
ResponseHead ClientHead(const Request& request, const ResponseHead& head) {
  ResponseHead answer = head;
  answer.fields.Set("X-Request-Id", request.record.request_id);
  answer.fields.Set(kRouteHeader, RouteText(request.record));
  return answer;
}

void BeginAnswer(Request& request, const ResponseHead& head) {
  request.record.status = head.status;
  request.client.Begin(ClientHead(request, head));
  request.record.first_byte = MonoNow() - request.began;
  request.shared.metrics.FirstByte("client", *request.record.first_byte);
}

// An answer that has begun, to the client as it comes. `piece` is the first of it. An answer that
// breaks off while all of it waits for its end, to be changed, is kFailed: see `failure`. It is not
// asked for again, for the blocks of its prompt have been fetched.
Awaitable<Decoded::Kind> Relay(Request& request, Exchange& exchange, Dispatch& dispatch,
                               tl::expected<std::string_view, UpstreamError> piece,
                               AnswerChange* change, const LegPlan& plan, LegFailure& failure) {
  ClientConnection& client = request.client;
  ResponseHead head = exchange.head();
  if (change != nullptr) change->Begin(head);
  BodyBudget::Part waiting(request.shared.bodies);
  std::string changed;
  while (true) {
    if (!piece) {
      if (request.departure.happened()) co_return Decoded::Kind::kLeft;
      request.shared.metrics.UpstreamFailed("decode", KindName(piece.error().kind));
      dispatch.Failed();
      if (!client.has_begun()) {
        failure = OfError(piece.error(), plan);
        co_return Decoded::Kind::kFailed;
      }
      request.record.outcome = fmt::format("broke_off: {}", piece.error().what);
      client.Abort();
      co_return Decoded::Kind::kAnswered;
    }
    const bool is_end = piece->empty();
    std::string_view bytes = *piece;
    if (change != nullptr) {
      bytes = changed = change->Take(bytes);
      waiting.Holds(change->pending());
    }
    const bool is_interrupted = change != nullptr && change->is_interrupted();
    const bool begins = !bytes.empty() || (is_end && !is_interrupted);
    if (begins && !client.has_begun()) BeginAnswer(request, head);
    if (!bytes.empty()) {
      request.record.bytes += bytes.size();
      request.shared.metrics.Relayed(bytes.size());
      const bool sent = co_await client.Write(bytes);
      if (!sent) co_return Decoded::Kind::kLeft;
    }
    if (is_interrupted) {
      dispatch.Succeeded();
      co_return Decoded::Kind::kInterrupted;
    }
    if (is_end) break;
    piece = co_await exchange.Read();
  }
  dispatch.Succeeded();
  const bool sent = co_await client.End();
  co_return sent ? Decoded::Kind::kAnswered : Decoded::Kind::kLeft;
}

}  // namespace

LegFailure NoEngine(const Fleet::None& none, const LegPlan& plan) {
  LegFailure failure;
  failure.status = 503;
  failure.type = fmt::format("{}_unavailable", plan.name);
  if (none.is_open) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(none.retry_after).count();
    failure.retry_after = static_cast<uint32_t>(std::max<int64_t>(seconds, 1));
    failure.message =
        fmt::format("every {} engine has failed and is left alone for now", RoleName(plan.role));
  } else {
    failure.message = fmt::format("there is no {} engine to ask", RoleName(plan.role));
  }
  return failure;
}

Outgoing Send(Shared& shared, Leg leg) {
  BodyBudget& bodies = shared.bodies;
  auto body = std::make_unique<const std::string>(std::move(leg.body));
  bodies.Add(body->size());
  const auto let_go = [&bodies](const std::string* held) {
    bodies.Give(held->size());
    delete held;
  };
  return {std::shared_ptr<const std::string>(body.release(), let_go), std::move(leg.headers)};
}

std::string RouteText(const AccessRecord& record) {
  std::string text;
  const auto add = [&](std::string_view name, std::string_view value) {
    if (!text.empty()) text += "; ";
    text.append(name).append("=").append(value);
  };
  if (!record.prefill.empty()) add("prefill", record.prefill);
  if (!record.decode.empty()) add("decode", record.decode);
  if (record.rank) add("rank", std::to_string(*record.rank));
  if (record.prompt_tokens > 0) {
    add("matched", std::to_string(record.matched_tokens));
    add("prompt", std::to_string(record.prompt_tokens));
  }
  if (!record.why.empty()) add("why", record.why);
  return text;
}

Awaitable<void> Forward(Request& request, const ResponseHead& head, std::string_view body) {
  ResponseHead answer = ClientHead(request, head);
  answer.body_end = BodyEnd::kLength;
  answer.length = body.size();
  request.record.status = head.status;
  request.record.bytes = body.size();
  request.client.Begin(answer);
  const bool sent = co_await request.client.Write(body);
  if (sent) (void)co_await request.client.End();
}

std::string PrefillHead(const Engine& engine, std::string_view target, Fields client,
                        const Fields& headers, size_t body_bytes) {
  client.Set("Accept-Encoding", "identity");  // it is read here
  return EngineHead(engine, "POST", target, body_bytes, std::move(client), headers);
}

void Judge(Shared& shared, Dispatch& dispatch, const Attempt& attempt) {
  const int status = attempt.head.status;
  if (status > 0 && status < 500) return dispatch.Succeeded();
  shared.metrics.UpstreamFailed(
      "prefill", status == 0 ? KindName(attempt.error.kind) : std::to_string(status));
  if (status == 0 || IsUnavailable(status)) dispatch.Failed();
}

Awaitable<Attempt> AskPrefiller(Shared& shared, Lane& lane, const Engine& engine,
                                std::string_view head, std::shared_ptr<const std::string> body,
                                Departure& departure) {
  Exchange exchange(lane.upstreams, departure);
  const MonoTime began = MonoNow();
  Attempt attempt;
  auto asked = co_await exchange.Ask(engine, head, *body);
  body.reset();
  if (!asked) {
    attempt.error = std::move(asked.error());
    co_return attempt;
  }
  shared.metrics.FirstByte("prefill", MonoNow() - began);
  auto whole = co_await exchange.ReadAll(kMaxPrefillAnswer);
  if (!whole) {
    attempt.error = std::move(whole.error());
    co_return attempt;
  }
  attempt.head = exchange.head();
  attempt.body = *std::move(whole);
  co_return attempt;
}

Awaitable<Prefilled> RunPrefill(Request& request, LegPlan plan, const MakeLeg& make) {
  Attempts attempts(request, plan);
  Prefilled result;
  while (auto next = attempts.Next()) {
    Dispatch dispatch = *std::move(next);
    auto leg = make(dispatch);
    if (!leg) {
      attempts.GaveUp();
      break;
    }
    request.record.prefill = dispatch.engine().name();
    const std::string head = PrefillHead(dispatch.engine(), request.asked.head.target,
                                         EngineFields(request), leg->headers, leg->body->size());
    Attempt attempt = co_await AskPrefiller(request.shared, request.lane, dispatch.engine(), head,
                                            std::move(leg->body), request.departure);
    const int status = attempt.head.status;
    if (request.departure.happened()) {
      result.kind = Prefilled::Kind::kLeft;
      co_return result;
    }
    if (status == 0) {
      attempts.Failed(dispatch, attempt.error);
      continue;
    }
    if (status >= 500) {
      result.failure = {status, "prefill_failed",
                        fmt::format("{}: status {}", dispatch.engine().name(), status)};
      const bool more = attempts.HasAnother();
      attempts.Refused(std::move(dispatch), status);
      if (more) continue;
      co_return result;
    }
    if (status >= 300 && request.client.has_begun()) {
      dispatch.Succeeded();
      result.failure = {502, "prefill_failed",
                        fmt::format("{}: status {}", dispatch.engine().name(), status)};
      co_return result;
    }
    if (status >= 300) {
      dispatch.Succeeded();
      co_await Forward(request, attempt.head, attempt.body);
      result.kind = Prefilled::Kind::kAnswered;
      co_return result;
    }
    attempts.Succeeded(dispatch);
    result.kind = Prefilled::Kind::kDone;
    result.dispatch = std::move(dispatch);
    result.answer = std::move(attempt.body);
    co_return result;
  }
  if (result.failure.message.empty()) result.failure = attempts.failure();
  co_return result;
}

Awaitable<Decoded> RunDecode(Request& request, LegPlan plan, const MakeLeg& make,
                             const DecodeHooks& hooks) {
  Departure& departure = hooks.departure != nullptr ? *hooks.departure : request.departure;
  Attempts attempts(request, plan);
  Decoded result;
  while (auto next = attempts.Next()) {
    Dispatch dispatch = *std::move(next);
    auto leg = make(dispatch);
    if (!leg) {
      attempts.GaveUp();
      break;
    }
    request.record.decode = dispatch.engine().name();
    Exchange exchange(request.lane.upstreams, departure);
    const std::string head = EngineHead(request, dispatch.engine(), request.asked.head.method,
                                        request.asked.head.target, leg->body->size(), leg->headers);
    const MonoTime began = MonoNow();
    auto asked = co_await exchange.Ask(dispatch.engine(), head, *leg->body);
    result.reached |= exchange.has_sent();
    tl::expected<std::string_view, UpstreamError> piece;
    if (asked) {
      piece = co_await exchange.Read();
    } else {
      piece = tl::unexpected(std::move(asked.error()));
    }
    if (departure.happened()) {
      result.kind = request.departure.happened() ? Decoded::Kind::kLeft : Decoded::Kind::kCancelled;
      co_return result;
    }
    if (!piece) {
      attempts.Failed(dispatch, piece.error());
      continue;
    }
    request.shared.metrics.FirstByte(plan.name, MonoNow() - began);
    const int status = exchange.head().status;
    const bool cannot_be_sent = status >= 300 && request.client.has_begun();
    const bool goes_on = plan.has_way_out || attempts.HasAnother();
    if (cannot_be_sent || (status >= 500 && goes_on)) {
      exchange.Close();
      attempts.Refused(std::move(dispatch), status);
      continue;
    }
    if (status >= 500) {
      request.shared.metrics.UpstreamFailed(plan.name, std::to_string(status));
      if (IsUnavailable(status)) dispatch.Failed();
    } else if (status >= 300) {
      dispatch.Succeeded();  // what it refuses may have been too much for the others as well
    } else {
      attempts.Succeeded(dispatch);
    }
    leg.reset();
    if (status < 300 && hooks.before) {
      co_await hooks.before();
      if (departure.happened()) {
        const bool has_left = request.departure.happened();
        result.kind = has_left ? Decoded::Kind::kLeft : Decoded::Kind::kCancelled;
        co_return result;
      }
    }
    const auto& begins = status < 300 ? hooks.first_byte : hooks.refused;
    if (begins) begins();
    result.status = status;
    // What may have to be continued is needed still; whoever changes answers lets go of it.
    if (hooks.change == nullptr) request.client.ReleaseBody(request.asked);
    AnswerChange* const change = status < 300 ? hooks.change : nullptr;
    result.kind = co_await Relay(request, exchange, dispatch, piece, change, plan, result.failure);
    co_return result;
  }
  result.failure = attempts.failure();
  co_return result;
}

}  // namespace conductor::proxy
