#include "daemon/proxy/background_prefill.h"

#include <utility>

namespace conductor::proxy {

BackgroundPrefill::BackgroundPrefill(Request& request, Dispatch dispatch, Leg leg,
                                     std::function<void(const Attempt&)> ended)
    : shared_(request.shared),
      lane_(request.lane),
      dispatch_(std::move(dispatch)),
      leg_(std::move(leg)),
      head_(PrefillHead(request, dispatch_.engine(), leg_.headers, leg_.body.size())),
      ended_(std::move(ended)),
      ends_(lane_.ending, [this] { departure_.Happen(); }) {}

std::shared_ptr<BackgroundPrefill> BackgroundPrefill::Start(
    Request& request, Dispatch dispatch, Leg leg, std::function<void(const Attempt&)> ended) {
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
  const Attempt attempt =
      co_await AskPrefiller(shared_, lane_, dispatch_.engine(), head_, leg_.body, departure_);
  const int status = attempt.head.status;
  if (!departure_.happened()) {
    if (status == 0) {
      shared_.metrics.UpstreamFailed("prefill", KindName(attempt.error.kind));
      dispatch_.Failed();
      // Whoever comes back may be another one.
      dispatch_.shared_engine()->SetBootstrap({});
    } else if (status >= 500) {
      shared_.metrics.UpstreamFailed("prefill", std::to_string(status));
      if (status > 501) dispatch_.Failed();
    } else {
      dispatch_.Succeeded();
    }
  }
  dispatch_.Release();
  const auto ended = std::exchange(ended_, nullptr);
  if (ended && !departure_.happened()) ended(attempt);
}

}  // namespace conductor::proxy
