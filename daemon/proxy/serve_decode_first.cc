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

// What came of a prefill that no engine could do.
struct CalledFailure {
  LegFailure failure;
  std::optional<Attempt> refused;  // an engine's answer about the request, which is the client's
};

// The prefill that one decoder calls for. It outlives the attempt, and the request, where the call
// is being worked on; nobody waits for it then. One thread: the lane's.
class CalledPrefill : public std::enable_shared_from_this<CalledPrefill> {
 public:
  CalledPrefill(Completion& completion, std::function<void(CalledFailure)> failed)
      : completion_(&completion),
        shared_(completion.request.shared),
        lane_(completion.request.lane),
        failed_(std::move(failed)),
        ends_(lane_.ending, [this] { departure_.Happen(); }) {}

  void Call(std::string params, Metaserver::Done done) {
    net::co_spawn(
        lane_.io,
        [self = this->shared_from_this(), params = std::move(params),
         done = std::move(done)]() -> Awaitable<void> { co_await self->Run(params, done); },
        net::detached);
  }

  // Nobody waits for it any more. With `cancel` its connection is closed at once, and where it has
  // not begun it never does.
  void Forget(bool cancel) {
    completion_ = nullptr;
    failed_ = nullptr;
    if (cancel) departure_.Happen();
  }

  // Blocks have been written to the decoder.
  [[nodiscard]] bool is_done() const { return is_done_; }

 private:
  // What is left of the request when it is over.
  struct Task {
    LegPlan plan;
    std::map<std::string, Held> held;
    std::string target;
    Fields fields;
    Outgoing leg;
  };

  [[nodiscard]] Task TaskOf(std::string_view params) const {
    const Request& request = completion_->request;
    Leg leg = shared_.choreography.Prefill(completion_->asked, {});
    if (const auto members = JsonMembers::Parse(leg.body)) {
      const std::array<JsonMembers::Change, 1> changes = {{{"kv_transfer_params", params}}};
      leg.body = members->With(changes);
    }
    return {completion_->PrefillPlan(), completion_->advice.prefillers, request.asked.head.target,
            EngineFields(request), Send(shared_, std::move(leg))};
  }

  Awaitable<void> Run(std::string_view params, const Metaserver::Done& done) {
    if (completion_ == nullptr) co_return done(404);
    Task task = TaskOf(params);
    task.plan.held = &task.held;
    CalledFailure result{{503, "prefill_unavailable", "there is no prefill engine to ask now", 1},
                         std::nullopt};
    std::vector<std::string> tried;
    for (uint32_t made = 0; made < task.plan.attempts && !departure_.happened(); ++made) {
      const Fleet::Wish wish{.policy = task.plan.policy,
                             .load = task.plan.load,
                             .prompt_tokens = task.plan.prompt_tokens,
                             .held = task.plan.held,
                             .but_not = tried};
      auto picked = shared_.fleet.Pick(Role::kPrefill, wish, MonoNow());
      if (!picked) break;
      if (made > 0) shared_.metrics.Retried("prefill");
      Dispatch dispatch = *std::move(picked);
      Attempt attempt = co_await Ask(task, dispatch);
      tried.push_back(engine_);
      if (departure_.happened()) break;
      Judge(shared_, dispatch, attempt);
      const int status = attempt.head.status;
      if (status >= 200 && status < 300) {
        is_done_ = true;
        co_return done(200);
      }
      result.failure = {
          502, "prefill_failed",
          status == 0 ? attempt.error.what : fmt::format("{}: status {}", engine_, status)};
      if (!IsRefusal(status)) continue;
      result.refused = std::move(attempt);
      break;
    }
    done(502);
    if (failed_) std::exchange(failed_, nullptr)(std::move(result));
  }

  Awaitable<Attempt> Ask(const Task& task, const Dispatch& dispatch) {
    engine_ = dispatch.engine().name();
    shared_.metrics.Chosen("prefill", ReasonName(dispatch.reason()));
    if (completion_ != nullptr) {
      completion_->Chose(dispatch);
      completion_->request.record.prefill = engine_;
    }
    Fields more = task.leg.headers;
    const auto rank = dispatch.held() ? dispatch.held()->rank : std::nullopt;
    if (rank) more.Set(kRankHeader, std::to_string(*rank));
    const std::string head =
        PrefillHead(dispatch.engine(), task.target, task.fields, more, task.leg.body->size());
    Attempt attempt =
        co_await AskPrefiller(shared_, lane_, dispatch.engine(), head, task.leg.body, departure_);
    co_return attempt;
  }

  Completion* completion_;  // none: nobody waits
  Shared& shared_;
  Lane& lane_;
  std::function<void(CalledFailure)> failed_;
  std::string engine_;  // that was asked last
  bool is_done_ = false;
  Departure departure_;
  Departure::Listener ends_;
};

// A decoder that is asked, and the call that it makes. The next attempt has a new id, so that
// nothing of the one before is taken for its own: neither a call that comes late nor what it said.
class DecodeFirst {
 public:
  DecodeFirst(Completion& completion, Departure& decode_ends)
      : completion_(completion),
        request_(completion.request),
        decode_ends_(decode_ends),
        prompts_(Prompts(completion.asked)) {}
  ~DecodeFirst() { LetGo(true); }
  DecodeFirst(const DecodeFirst&) = delete;
  DecodeFirst& operator=(const DecodeFirst&) = delete;

  Outgoing Begin(const Dispatch& dispatch) {
    LetGo(true);
    RenameForEngines(request_);
    completion_.Chose(dispatch);  // until it calls, and a prefiller is chosen
    request_.record.prefill.clear();
    prefill_ = std::make_shared<CalledPrefill>(completion_, [this](CalledFailure failure) {
      if (request_.client.has_begun()) return;
      failure_ = std::move(failure);
      decode_ends_.Happen();
    });
    // The call comes in on any thread, perhaps when the request is just over.
    waiting_.emplace(request_.shared.metaserver, request_.record.engine_request_id, prompts_,
                     [weak = std::weak_ptr(prefill_), &io = request_.lane.io](
                         std::string params, Metaserver::Done done) {
                       net::post(io, [weak, params = std::move(params), done = std::move(done)] {
                         if (const auto called = weak.lock()) return called->Call(params, done);
                         done(404);
                       });
                     });
    return Send(request_.shared, request_.shared.choreography.Decode(completion_.asked, {}, {}));
  }

  // The client is about to get the first bytes: whoever was to call has called.
  void FirstByte() { LetGo(false); }

  // The client is about to get a refusal: a call that comes now comes too late.
  void Refused() { LetGo(true); }

  // Why the decoder was cancelled.
  [[nodiscard]] std::optional<CalledFailure>& failure() { return failure_; }

 private:
  void LetGo(bool cancel) {
    waiting_.reset();
    if (prefill_ == nullptr) return;
    if (cancel && prefill_->is_done()) request_.shared.metrics.Stranded();
    prefill_->Forget(cancel);
    prefill_ = nullptr;
  }

  Completion& completion_;
  Request& request_;
  Departure& decode_ends_;
  const size_t prompts_;
  std::shared_ptr<CalledPrefill> prefill_;
  std::optional<Metaserver::Waiting> waiting_;
  std::optional<CalledFailure> failure_;
};

}  // namespace

Awaitable<void> ServeDecodeFirst(Completion& completion) {
  Request& request = completion.request;
  // They are several requests in a decoder, each with blocks of its own to be written to, and names
  // that lead to none here.
  if (HasSeveralChoices(completion.asked.members)) {
    if (request.shared.options.prefill_required) {
      co_return co_await AnswerError(request, 400, "invalid_request_error",
                                     "no engine can prefill for n or best_of above 1 here");
    }
    co_return co_await ServeDecodeAlone(completion, "several_choices");
  }
  std::optional<CalledFailure> failure;
  {
    Departure decode_ends;
    const Departure::Listener leaves(request.departure, [&] { decode_ends.Happen(); });
    DecodeFirst attempt(completion, decode_ends);
    const MakeLeg make = [&](const Dispatch& dispatch) -> std::optional<Outgoing> {
      return attempt.Begin(dispatch);
    };
    DecodeHooks hooks;
    hooks.departure = &decode_ends;
    hooks.first_byte = [&] { attempt.FirstByte(); };
    hooks.refused = [&] { attempt.Refused(); };
    const Decoded decoded = co_await RunDecode(request, completion.PairedDecodePlan(), make, hooks);
    if (request.departure.happened() || request.client.has_begun()) co_return;
    if (decoded.kind == Decoded::Kind::kFailed) {
      co_return co_await AnswerFailure(request, decoded.failure);
    }
    failure = std::move(attempt.failure());
  }
  if (!failure) co_return;
  if (failure->refused) {
    co_return co_await Forward(request, failure->refused->head, failure->refused->body);
  }
  co_await ServeWithoutPrefill(completion, std::move(failure->failure));
}

}  // namespace conductor::proxy
