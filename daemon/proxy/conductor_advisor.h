#ifndef CONDUCTOR_DAEMON_PROXY_CONDUCTOR_ADVISOR_H_
#define CONDUCTOR_DAEMON_PROXY_CONDUCTOR_ADVISOR_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/proxy/advisor.h"
#include "daemon/proxy/conductor_link.h"
#include "daemon/proxy/fleet.h"
#include "daemon/proxy/options.h"
#include "daemon/proxy/prompt_tokens.h"
#include "lib/client/questions.h"

namespace conductor::proxy {

// Asks an engine for a prompt's tokens (POST /tokenize), unless the prompt is tokens or was asked
// for before, and then a conductor who holds how much of it. Each has its time limit, and after it
// the request goes on without advice.
class ConductorAdvisor : public Advisor {
 public:
  ConductorAdvisor(const ProxyOptions& options, Fleet& fleet, ConductorLink& link)
      : options_(options), fleet_(fleet), link_(link), cache_(options.token_cache_bytes) {}

  [[nodiscard]] Awaitable<Advice> Advise(const Prompt& prompt, Lane& lane,
                                         Departure& departure) override;

 private:
  struct Tokenized {
    PromptTokens tokens;
    std::string fallback;  // why there are none
  };
  [[nodiscard]] Awaitable<Tokenized> Tokenize(const Prompt& prompt, Lane& lane,
                                              Departure& departure);
  [[nodiscard]] Awaitable<Tokenized> AskTokenizer(const Prompt& prompt, const std::string& body,
                                                  Lane& lane, Departure& departure);
  [[nodiscard]] std::shared_ptr<Engine> Tokenizer();

  const ProxyOptions& options_;
  Fleet& fleet_;
  ConductorLink& link_;
  TokenCache cache_;
  std::atomic<uint64_t> turn_ = 0;  // a count, which orders nothing
};

// What may be believed of an instance's figures. Nothing: they may be too high, or nobody knows.
[[nodiscard]] std::optional<Held> TrustedHeld(const client::InstanceFigures& figures);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_CONDUCTOR_ADVISOR_H_
