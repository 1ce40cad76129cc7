#ifndef CONDUCTOR_DAEMON_PROXY_ADVISOR_H_
#define CONDUCTOR_DAEMON_PROXY_ADVISOR_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "daemon/proxy/asio.h"
#include "daemon/proxy/departure.h"
#include "daemon/proxy/http_head.h"
#include "daemon/proxy/json_members.h"
#include "daemon/proxy/lane.h"
#include "daemon/proxy/policy.h"

namespace conductor::proxy {

// What is known of who holds how much of a prompt, when an engine has to be chosen.
struct Advice {
  uint64_t prompt_tokens = 0;              // 0: not known
  std::map<std::string, Held> prefillers;  // by the engine's name; only what can be trusted
  std::map<std::string, Held> decoders;
  // Why nothing is known: "tokenize_timeout", "conductor_away", ...; empty: it was asked.
  std::string fallback;
};

// Finds it out. Never an error: without advice engines are chosen by their load.
class Advisor {
 public:
  struct Prompt {
    std::string_view path;  // "/v1/completions" or "/v1/chat/completions"
    std::string_view body;
    const JsonMembers& members;
    const Fields& fields;  // of the client's request
    std::string_view request_id;
  };

  virtual ~Advisor() = default;

  // Ends within its time limits, and at once when `departure` happens. Called on the lane's thread.
  [[nodiscard]] virtual Awaitable<Advice> Advise(const Prompt& prompt, Lane& lane,
                                                 Departure& departure) = 0;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_ADVISOR_H_
