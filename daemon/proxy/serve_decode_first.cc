#include <fmt/format.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/serving.h"

namespace conductor::proxy {
namespace {

// Several prompts in one request: the decoder calls for each of them.
size_t Prompts(const Asked& asked) {
  const auto prompt = asked.members.Find("prompt");
  if (!prompt || !prompt->starts_with('[')) return 1;
  const auto json = nlohmann::json::parse(*prompt, nullptr, false);
  if (!json.is_array() || json.empty() || json.front().is_number()) return 1;
  return json.size();
}

// The prefill that the decoder calls for. It outlives the request where the call is being worked
// on, and nobody waits for it then. One thread: the lane's.
class CalledPrefill : public std::enable_shared_from_this<CalledPrefill> {
 public:
  CalledPrefill(Completion& completion, std::function<void(LegFailure)> failed)
      : shared_(completion.request.shared),
        lane_(completion.request.lane),
        plan_(completion.PrefillPlan()),
        held_(completion.advice.prefillers),
        leg_(shared_.choreography.Prefill(completion.asked, {})),
        record_(completion.request.record),
        request_head_(completion.request.asked.head),
        failed_(std::move(failed)),
        ends_(lane_.ending, [this] { departure_.Happen(); }) {
    plan_.held = &held_;
  }

  void Call(std::string params, Metaserver::Done done) {
    net::co_spawn(
        lane_.io,
        [self = this->shared_from_this(), params = std::move(params),
         done = std::move(done)]() -> Awaitable<void> { co_await self->Run(params, done); },
        net::detached);
  }

  // Nobody waits for it any more. With `cancel` its connection is closed at once.
  void Forget(bool cancel) {
    failed_ = nullptr;
    if (cancel) departure_.Happen();
  }

  // Who was asked, for the log.
  [[nodiscard]] const std::string& engine() const { return engine_; }

 private:
  Awaitable<void> Run(std::string_view params, const Metaserver::Done& done) {
    const auto members = JsonMembers::Parse(leg_.body);
    const std::array<JsonMembers::Change, 1> changes = {{{"kv_transfer_params", params}}};
    const std::string body = members ? members->With(changes) : leg_.body;
    std::vector<std::string> tried;
    LegFailure failure{503, "prefill_unavailable", "there is no prefill engine to ask now", 1};
    for (uint32_t made = 0; made < plan_.attempts && !departure_.happened(); ++made) {
      const Fleet::Wish wish{.policy = plan_.policy,
                             .load = plan_.load,
                             .prompt_tokens = plan_.prompt_tokens,
                             .held = plan_.held,
                             .but_not = tried};
      auto picked = shared_.fleet.Pick(Role::kPrefill, wish, MonoNow());
      if (!picked) break;
      Dispatch dispatch = *std::move(picked);
      engine_ = dispatch.engine().name();
      tried.push_back(engine_);
      shared_.metrics.Chosen("prefill", ReasonName(dispatch.reason()));
      const std::string head = Head(dispatch, body.size());
      const Attempt attempt =
          co_await AskPrefiller(shared_, lane_, dispatch.engine(), head, body, departure_);
      if (departure_.happened()) break;
      const int status = attempt.head.status;
      if (status == 200) {
        dispatch.Succeeded();
        co_return done(200);
      }
      shared_.metrics.UpstreamFailed(
          "prefill", status == 0 ? KindName(attempt.error.kind) : std::to_string(status));
      if (status == 0 || status > 501) dispatch.Failed();
      failure = {502, "prefill_failed",
                 status == 0 ? attempt.error.what : fmt::format("{}: status {}", engine_, status)};
      if (status >= 300 && status < 500) break;
    }
    done(502);
    if (failed_) std::exchange(failed_, nullptr)(failure);
  }

  // As EngineHead(), for a request that may be over.
  [[nodiscard]] std::string Head(const Dispatch& dispatch, size_t bytes) const {
    std::string head = fmt::format("POST {} HTTP/1.1\r\nHost: {}\r\n", request_head_.target,
                                   dispatch.engine().name());
    Fields fields = WithoutHopByHop(request_head_.fields);
    fields.Remove("Host");
    fields.Remove("Expect");
    fields.Set("X-Request-Id", record_.request_id);
    fields.Set("Accept-Encoding", "identity");
    if (!shared_.options.api_key.empty()) {
      fields.Set("Authorization", fmt::format("Bearer {}", shared_.options.api_key));
    }
    if (dispatch.held() && dispatch.held()->rank) {
      fields.Set(kRankHeader, std::to_string(*dispatch.held()->rank));
    }
    fields.AppendTo(head);
    return head.append(fmt::format("Content-Length: {}\r\n\r\n", bytes));
  }

  Shared& shared_;
  Lane& lane_;
  LegPlan plan_;
  const std::map<std::string, Held> held_;
  const Leg leg_;
  const AccessRecord record_;
  const RequestHead request_head_;
  std::function<void(LegFailure)> failed_;
  std::string engine_;
  Departure departure_;
  Departure::Listener ends_;
};

}  // namespace

Awaitable<void> ServeDecodeFirst(Completion& completion) {
  Request& request = completion.request;
  Shared& shared = request.shared;
  Departure decode_ends;
  const Departure::Listener leaves(request.departure, [&] { decode_ends.Happen(); });
  std::optional<LegFailure> prefill_failed;
  const auto prefill = std::make_shared<CalledPrefill>(completion, [&](LegFailure failure) {
    if (request.client.has_begun()) return;
    prefill_failed = std::move(failure);
    decode_ends.Happen();
  });
  std::optional<Metaserver::Waiting> waiting;
  // The call comes in on any thread, perhaps when the request is just over.
  waiting.emplace(shared.metaserver, request.record.request_id, Prompts(completion.asked),
                  [weak = std::weak_ptr(prefill), &io = request.lane.io](std::string params,
                                                                         Metaserver::Done done) {
                    net::post(io, [weak, params = std::move(params), done = std::move(done)] {
                      if (const auto called = weak.lock()) return called->Call(params, done);
                      done(404);
                    });
                  });
  const Outgoing leg = Send(shared.choreography.Decode(completion.asked, {}, {}));
  const MakeLeg make = [&](const Dispatch& dispatch) -> std::optional<Outgoing> {
    completion.Chose(dispatch);
    return leg;
  };
  DecodeHooks hooks;
  hooks.departure = &decode_ends;
  hooks.first_byte = [&] { request.record.prefill = prefill->engine(); };
  const Decoded decoded = co_await RunDecode(request, completion.DecodePlan(), make, hooks);
  waiting.reset();
  prefill->Forget(decoded.kind != Decoded::Kind::kAnswered);
  if (request.departure.happened()) co_return;
  if (decoded.kind == Decoded::Kind::kFailed) {
    co_return co_await AnswerFailure(request, decoded.failure);
  }
  if (prefill_failed && !request.client.has_begun()) {
    co_await ServeWithoutPrefill(completion, *std::move(prefill_failed));
  }
}

}  // namespace conductor::proxy
