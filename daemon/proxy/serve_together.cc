#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "daemon/proxy/background_prefill.h"
#include "daemon/proxy/parcel.h"
#include "daemon/proxy/prompt_logprobs.h"
#include "daemon/proxy/serving.h"

namespace conductor::proxy {
namespace {

// Both legs at once. An attempt is a decoder, a prefiller and a name of the transfer, and begins
// when the decoder has been chosen: without one nobody prefills. Where the decoder fails the next
// attempt has all three anew, for what the first one has fetched of the transfer nobody knows.
// Where the prefiller fails the decoder is cancelled, which would wait for blocks that never come.
class Together {
 public:
  explicit Together(Completion& completion)
      : completion_(completion),
        request_(completion.request),
        shared_(completion.request.shared),
        plan_(completion.PrefillPlan()),
        merges_(shared_.choreography.has_prompt_logprobs() &&
                AsksPromptLogprobs(completion.asked.members)) {}

  ~Together() { LetGo(true); }
  Together(const Together&) = delete;
  Together& operator=(const Together&) = delete;

  // The next prefiller that is ready; false: there is none left.
  bool Choose() {
    while (failures_ < plan_.attempts) {
      const std::vector<std::string> but_not = TriedOrNotReady();
      const Fleet::Wish wish{.policy = plan_.policy,
                             .load = plan_.load,
                             .prompt_tokens = plan_.prompt_tokens,
                             .held = plan_.held,
                             .but_not = but_not};
      auto picked = shared_.fleet.Pick(Role::kPrefill, wish, MonoNow());
      if (!picked) break;
      RenameForEngines(request_);
      auto prefiller = completion_.PrefillerOf(*picked);
      if (!prefiller) continue;  // its ids were forgotten just now
      prefiller_ = *std::move(prefiller);
      dispatch_ = *std::move(picked);
      return true;
    }
    return false;
  }

  // With the prefiller that was chosen. Of one that fails see failed_prefill().
  Awaitable<Decoded> Run() {
    Departure decode_ends;
    decode_ends_ = &decode_ends;
    const Departure::Listener leaves(request_.departure, [&] { decode_ends.Happen(); });
    refused_.reset();
    const MakeLeg make = [this](const Dispatch& decoder) { return Begin(decoder); };
    DecodeHooks hooks;
    hooks.departure = &decode_ends;
    if (merges_) {
      hooks.change = &logprobs_;
      hooks.before = [&]() -> Awaitable<void> { return WaitForLogprobs(decode_ends); };
      hooks.first_byte = [this] {
        is_decoding_ = true;
        request_.client.ReleaseBody(request_.asked);
      };
    }
    Decoded decoded = co_await RunDecode(request_, completion_.PairedDecodePlan(), make, hooks);
    const bool has_answered = request_.client.has_begun() && request_.record.status < 300;
    LetGo(!has_answered && !is_decoding_);
    decode_ends_ = nullptr;
    co_return decoded;
  }

  // What the prefiller said that failed before the client got anything.
  [[nodiscard]] const std::optional<Attempt>& failed_prefill() const { return refused_; }
  [[nodiscard]] const LegFailure& failure() const { return failure_; }
  // Nobody has been asked to prefill.
  [[nodiscard]] bool is_untried() const { return made_ == 0; }

 private:
  // A choice counts, so those that cannot be used are no candidates: it would take the turn, or the
  // probe, of one that can.
  [[nodiscard]] std::vector<std::string> TriedOrNotReady() {
    std::vector<std::string> names = tried_;
    if (!shared_.choreography.needs_bootstrap_ids()) return names;
    for (const auto& engine : shared_.fleet.Engines(Role::kPrefill)) {
      if (!engine->bootstrap().empty()) continue;
      names.push_back(engine->name());
      if (failures_ > 0) continue;
      failure_.message = fmt::format("{}: its bootstrap server does not answer", engine->name());
    }
    return names;
  }

  // A decoder has been chosen. Nothing: there is no prefiller for it, and it shall not do without.
  std::optional<Outgoing> Begin(const Dispatch& decoder) {
    LetGo(true);
    if (!dispatch_ && !Choose()) {
      if (shared_.options.prefill_required) return std::nullopt;
      shared_.metrics.FellBack("prefill_failed");
      completion_.Chose(decoder);
      request_.record.prefill.clear();
      request_.record.why.append("; fallback=prefill_failed");
      return Send(shared_, Choreography::Alone(completion_.asked));
    }
    if (made_++ > 0) shared_.metrics.Retried("prefill");
    shared_.metrics.Chosen("prefill", ReasonName(dispatch_.reason()));
    request_.record.prefill = dispatch_.engine().name();
    completion_.Chose(dispatch_);
    request_.record.rank = prefiller_.rank;  // of a turn, where nobody is known to hold anything
    is_done_ = false;
    prefill_ =
        BackgroundPrefill::Start(request_, std::move(dispatch_), completion_.PrefillLeg(prefiller_),
                                 [this](Attempt attempt) { PrefillEnded(std::move(attempt)); });
    Outgoing leg = Send(shared_, shared_.choreography.Decode(completion_.asked, prefiller_, {}));
    if (merges_) {
      leg.headers.Set("Accept-Encoding", "identity");  // it is read here
      prefilled_ = std::make_shared<Parcel<std::string>>(request_.lane.io);
    }
    return leg;
  }

  // The prefiller's answer comes with the blocks, before the decoder's.
  Awaitable<void> WaitForLogprobs(Departure& departure) {
    // Without a prefiller the decoder knows them.
    if (prefill_ == nullptr) co_return;
    const auto parcel = prefilled_;
    const auto answer = co_await parcel->Wait(departure, shared_.options.upstreams.first_byte);
    if (answer) logprobs_.Prefilled(*answer);
  }

  void PrefillEnded(Attempt attempt) {
    const int status = attempt.head.status;
    if (status >= 200 && status < 300) {
      is_done_ = true;
      if (prefilled_ != nullptr) prefilled_->Deliver(std::move(attempt.body));
      return;
    }
    if (request_.client.has_begun() || is_decoding_) return;
    const std::string& name = prefill_->engine();
    tried_.push_back(name);
    ++failures_;
    failure_ = {502, "prefill_failed",
                status == 0 ? attempt.error.what : fmt::format("{}: status {}", name, status)};
    refused_ = std::move(attempt);
    decode_ends_->Happen();
  }

  // Of the prefill that runs. `cancel`: its blocks are not needed.
  void LetGo(bool cancel) {
    if (prefill_ == nullptr) return;
    if (cancel && is_done_) shared_.metrics.Stranded();
    prefill_->Forget(cancel);
    prefill_ = nullptr;
  }

  Completion& completion_;
  Request& request_;
  Shared& shared_;
  const LegPlan plan_;
  const bool merges_;  // the client asks for logprobs of its prompt
  WithPromptLogprobs logprobs_;
  std::shared_ptr<Parcel<std::string>> prefilled_;  // where `merges_`: the prefiller's answer
  std::vector<std::string> tried_;                  // prefillers that failed
  uint32_t failures_ = 0;                           // of those that were asked
  uint32_t made_ = 0;                               // prefills that were begun
  Dispatch dispatch_;                               // chosen, and not asked yet
  Prefiller prefiller_;
  std::shared_ptr<BackgroundPrefill> prefill_;
  bool is_done_ = false;      // it has answered well
  bool is_decoding_ = false;  // the decoder has the blocks, and its answer may wait for its end
  std::optional<Attempt> refused_;
  LegFailure failure_{503, "prefill_unavailable", "there is no prefill engine to ask now", 1};
  Departure* decode_ends_ = nullptr;
};

// Whether the bootstrap server of none of the prefillers has ever answered: it is about to start.
bool IsStarting(const Shared& shared) {
  if (!shared.choreography.needs_bootstrap_ids()) return false;
  const auto prefillers = shared.fleet.Engines(Role::kPrefill);
  return !prefillers.empty() && std::ranges::none_of(prefillers, [](const auto& engine) {
    return engine->has_been_ready();
  });
}

}  // namespace

Awaitable<void> ServeTogether(Completion& completion) {
  Request& request = completion.request;
  if (const auto none = completion.NoDecoder()) co_return co_await AnswerFailure(request, *none);
  LegFailure failure;
  {
    Together together(completion);
    while (together.Choose()) {
      const Decoded decoded = co_await together.Run();
      if (request.departure.happened() || request.client.has_begun()) co_return;
      if (decoded.kind == Decoded::Kind::kFailed) {
        co_return co_await AnswerFailure(request, decoded.failure);
      }
      const auto& refused = together.failed_prefill();
      if (!refused) co_return;
      if (IsRefusal(refused->head.status)) {
        co_return co_await Forward(request, refused->head, refused->body);
      }
    }
    failure = together.failure();
    if (together.is_untried() && IsStarting(request.shared)) {
      co_return co_await AnswerFailure(request, failure);
    }
  }
  request.record.prefill.clear();
  co_await ServeWithoutPrefill(completion, std::move(failure));
}

}  // namespace conductor::proxy
