#include "daemon/proxy/background_prefill.h"

#include <utility>

namespace conductor::proxy {

BackgroundPrefill::BackgroundPrefill(Request& request, Dispatch dispatch, Leg leg,
                                     std::function<void(Attempt)> ended)
    : shared_(request.shared),
      lane_(request.lane),
      dispatch_(std::move(dispatch)),
      engine_(dispatch_.engine().name()),
      leg_(Send(request.shared, std::move(leg))),
      head_(PrefillHead(dispatch_.engine(), request.asked.head.target, EngineFields(request),
                        leg_.headers, leg_.body->size())),
      ended_(std::move(ended)),
      ends_(lane_.ending, [this] { departure_.Happen(); }) {}

std::shared_ptr<BackgroundPrefill> BackgroundPrefill::Start(Request& request, Dispatch dispatch,
                                                            Leg leg,
                                                            std::function<void(Attempt)> ended) {
  const std::shared_ptr<BackgroundPrefill> started(
      new BackgroundPrefill(request, std::move(dispatch), std::move(leg), std::move(ended)));
  net::co_spawn(
      request.lane.io, [started]() -> Awaitable<void> { co_await started->Run(); }, net::detached);
  return started;
}

void BackgroundPrefill::Forget(bool cancel) {
  ended_ = nullptr;
  if (cancel) departure_.Happen();
}

Awaitable<void> BackgroundPrefill::Run() {
  Attempt attempt = co_await AskPrefiller(shared_, lane_, dispatch_.engine(), head_,
                                          std::move(leg_.body), departure_);
  if (!departure_.happened()) {
    Judge(shared_, dispatch_, attempt);
    // Whoever comes back may be another one.
    if (attempt.head.status == 0) dispatch_.shared_engine()->SetBootstrap({});
  }
  dispatch_.Release();
  const auto ended = std::exchange(ended_, nullptr);
  if (ended && !departure_.happened()) ended(std::move(attempt));
}

}  // namespace conductor::proxy
