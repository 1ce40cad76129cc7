#ifndef CONDUCTOR_DAEMON_PROXY_LEGS_H_
#define CONDUCTOR_DAEMON_PROXY_LEGS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/proxy/answer_change.h"
#include "daemon/proxy/request.h"

// The two halves of a request, each with its attempts.
//
// What is tried again, and what is not: an engine that cannot be reached, does not answer in time,
// breaks off before the first byte of its answer's body, or answers 5xx is followed by another
// engine. The client has got nothing until then, not even a status. What is 4xx is about the
// request: the client gets it as it is.
namespace conductor::proxy {

// Why a leg came to nothing, and no answer has been given yet.
struct LegFailure {
  int status = 502;
  std::string type;  // of the error
  std::string message;
  uint32_t retry_after = 0;  // seconds
};

// One leg's choice of engines.
struct LegPlan {
  Role role = Role::kDecode;
  Policy policy = Policy::kLeastLoaded;
  double load = 1;
  uint64_t prompt_tokens = 0;
  const std::map<std::string, Held>* held = nullptr;
  uint32_t attempts = 1;
  std::string_view name;             // "prefill" or "decode": in metrics
  std::vector<std::string> but_not;  // engines that are not to be asked
  // Where all fail the caller has another way: no 5xx becomes the client's answer.
  bool has_way_out = false;
};

// What is sent to one engine. A body is large, and the same in each attempt: there is one of it.
struct Outgoing {
  std::shared_ptr<const std::string> body;
  Fields headers;
};
// The body counts against the budget of all bodies as long as anybody holds it.
[[nodiscard]] Outgoing Send(Shared& shared, Leg leg);

// The failure of a leg that has nobody to ask.
[[nodiscard]] LegFailure NoEngine(const Fleet::None& none, const LegPlan& plan);

// Makes what is sent to the engine that was chosen; nothing: no engine can be asked any more, and
// the leg has failed. A decode leg's is called once for each attempt, before anything is sent.
using MakeLeg = std::function<std::optional<Outgoing>(const Dispatch& dispatch)>;

// What became of a leg that is not the client's answer.
struct Prefilled {
  enum class Kind : uint8_t {
    kDone,      // `answer` is the engine's 200
    kAnswered,  // the client has got the engine's refusal
    kLeft,      // the client has left
    kFailed,    // see `failure`
  };
  Kind kind = Kind::kFailed;
  Dispatch dispatch;  // kDone: still counts as its load
  std::string answer;
  LegFailure failure;
};
// Once the client's answer has begun nothing is answered: a refusal is kFailed then.
[[nodiscard]] Awaitable<Prefilled> RunPrefill(Request& request, LegPlan plan, const MakeLeg& make);

// One question to a prefiller that has been chosen, for whoever asks on.
struct Attempt {
  ResponseHead head;  // status 0: there is no answer, see `error`
  std::string body;
  UpstreamError error;
};
// All that is handed in must live until it is done; it knows nothing of the client. `body` is let
// go of when the answer begins.
[[nodiscard]] Awaitable<Attempt> AskPrefiller(Shared& shared, Lane& lane, const Engine& engine,
                                              std::string_view head,
                                              std::shared_ptr<const std::string> body,
                                              Departure& departure);
// The head of such a question; `client`: EngineFields().
[[nodiscard]] std::string PrefillHead(const Engine& engine, std::string_view target, Fields client,
                                      const Fields& headers, size_t body_bytes);
// Whether this status of a prefiller is an answer about the request, which is the client's: it asks
// for something that cannot be.
[[nodiscard]] constexpr bool IsRefusal(int status) { return status >= 300 && status < 500; }
// Tells breaker and metrics what came of it.
void Judge(Shared& shared, Dispatch& dispatch, const Attempt& attempt);

// An engine's whole answer as the client's.
[[nodiscard]] Awaitable<void> Forward(Request& request, const ResponseHead& head,
                                      std::string_view body);

// What became of the leg whose answer is the client's.
struct Decoded {
  enum class Kind : uint8_t {
    kAnswered,  // as far as it came: an answer that broke off was broken off for the client too
    kLeft,
    kCancelled,    // `departure` happened, and it was not the client's
    kInterrupted,  // `change` was: the client waits for the rest
    kFailed,
  };
  Kind kind = Kind::kFailed;
  LegFailure failure;
  int status = 0;        // of the engine's answer, where the client got one
  bool reached = false;  // an engine had the request, or a part of it

  // Nobody has fetched what was prefilled, as far as is known.
  [[nodiscard]] bool has_left_blocks() const {
    return kind == Kind::kFailed || status >= 500 || (kind == Kind::kLeft && !reached);
  }
};
struct DecodeHooks {
  Departure* departure = nullptr;    // ends the leg; none: the request's own
  std::function<void()> first_byte;  // the client is about to get the first bytes of a success
  // The same of what is none. Behind either of them the client's body may be gone.
  std::function<void()> refused;
  AnswerChange* change = nullptr;  // of a success; none: its bytes pass as they come
  // What `change` waits for before a success is relayed; it ends when `departure` happens.
  std::function<Awaitable<void>()> before;
};
// A client's answer that has begun is gone on with, by successes only.
// Of an answer that `change` keeps until its end the client gets nothing before; first_byte is
// called when it begins here. One that breaks off until then is kFailed, and not asked for again.
[[nodiscard]] Awaitable<Decoded> RunDecode(Request& request, LegPlan plan, const MakeLeg& make,
                                           const DecodeHooks& hooks = {});

// The answer's head says who served, how much they held and why they were chosen.
inline constexpr std::string_view kRouteHeader = "X-Conductor-Route";
[[nodiscard]] std::string RouteText(const AccessRecord& record);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_LEGS_H_
