#ifndef CONDUCTOR_DAEMON_PROXY_BACKGROUND_PREFILL_H_
#define CONDUCTOR_DAEMON_PROXY_BACKGROUND_PREFILL_H_

#include <functional>
#include <memory>
#include <string>

#include "daemon/proxy/legs.h"
#include "daemon/proxy/request.h"

namespace conductor::proxy {

// A prefill that goes on beside the decode leg, and may outlive its request: an answer that comes
// after the decoder's end still frees the connection and tells how the engine is. One thread: the
// lane's.
class BackgroundPrefill : public std::enable_shared_from_this<BackgroundPrefill> {
 public:
  // `ended` is told what came of it, unless it is forgotten before.
  static std::shared_ptr<BackgroundPrefill> Start(Request& request, Dispatch dispatch, Leg leg,
                                                  std::function<void(Attempt)> ended);

  // Nobody waits for it any more. With `cancel` its connection is closed at once, and where it has
  // not begun it never does.
  void Forget(bool cancel);

  // The engine's name.
  [[nodiscard]] const std::string& engine() const { return engine_; }

 private:
  BackgroundPrefill(Request& request, Dispatch dispatch, Leg leg,
                    std::function<void(Attempt)> ended);
  Awaitable<void> Run();

  Shared& shared_;
  Lane& lane_;
  Dispatch dispatch_;
  const std::string engine_;
  Outgoing leg_;  // until it has been sent
  const std::string head_;
  std::function<void(Attempt)> ended_;
  Departure departure_;
  Departure::Listener ends_;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_BACKGROUND_PREFILL_H_
